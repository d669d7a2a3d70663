// Command benchsend measures how fast mail servers send to others: it hands messages in by SMTP, is the
// fifty servers to which they go, and stops the clock when the last has arrived. The same load, one
// server after the other in one run, so that the ratio means something on a noisy machine.
//
//	benchsend -server NAME=ADDRESS [-server …]
//	benchsend -server NAME=ADDRESS -fill 100000
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

type server struct{ name, addr string }

type servers []server

func (s *servers) String() string { return fmt.Sprint(*s) }

func (s *servers) Set(v string) error {
	name, addr, ok := strings.Cut(v, "=")
	if !ok {
		return fmt.Errorf("%q is not NAME=ADDRESS", v)
	}
	*s = append(*s, server{name, addr})
	return nil
}

func main() {
	var list servers
	flag.Var(&list, "server", "NAME=ADDRESS of SMTP; twice to compare")
	listen := flag.String("listen", "0.0.0.0:2599", "address of the servers to which the mail goes")
	destinations := flag.Int("destinations", 50, "domains d1.test, d2.test and so on")
	count := flag.Int("count", 10000, "messages of a round")
	size := flag.Int("size", 4096, "octets of a message")
	conns := flag.Int("connections", 16, "connections that hand them in")
	rounds := flag.Int("rounds", 3, "rounds; the median is shown")
	single := flag.Int("single", 100, "messages that are sent one by one, for the time between hand-in and the peer's DATA")
	fill := flag.Int("fill", 0, "only hand in this many, which nobody takes")
	flag.Parse()
	m := mail{size: *size, conns: *conns, destinations: *destinations}
	if err := run(list, m, *listen, *count, *rounds, *single, *fill); err != nil {
		fmt.Fprintln(os.Stderr, "benchsend:", err)
		os.Exit(1)
	}
}

func run(list servers, m mail, listen string, count, rounds, single, fill int) error {
	if fill > 0 {
		return m.handIn(list[0].addr, fill)
	}
	sink, err := listenSink(listen)
	if err != nil {
		return err
	}
	if err := throughput(list, m, sink, count, rounds); err != nil {
		return err
	}
	return latency(list, m, sink, single)
}

// throughput prints messages per second from the first hand-in until the last has arrived.
func throughput(list servers, m mail, sink *sink, count, rounds int) error {
	rates := make([][]float64, len(list))
	for range rounds {
		for i, s := range list {
			arrived := sink.expect(count)
			began := time.Now()
			if err := m.handIn(s.addr, count); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			in := time.Since(began)
			select {
			case <-arrived:
			case <-time.After(10 * time.Minute):
				return fmt.Errorf("%s: %d of %d messages have arrived after ten minutes", s.name, sink.count(), count)
			}
			took := time.Since(began)
			fmt.Printf("# %s: handed in after %s, all arrived after %s, over %d connections\n", s.name, in.Round(time.Millisecond), took.Round(time.Millisecond), sink.connections())
			rates[i] = append(rates[i], float64(count)/took.Seconds())
		}
	}
	row(list, fmt.Sprintf("%d messages of %d octets to %d destinations", count, m.size, m.destinations), "messages/s", func(i int) float64 { return median(rates[i]) })
	return nil
}

// latency prints the time from the client's end of data to the peer's DATA, on an idle system.
func latency(list servers, m mail, sink *sink, single int) error {
	times := make([][]float64, len(list))
	for i, s := range list {
		for range single {
			arrived := sink.expect(1)
			began := time.Now()
			if err := m.handIn(s.addr, 1); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			<-arrived
			times[i] = append(times[i], float64(sink.data().Sub(began).Microseconds())/1000)
		}
	}
	row(list, "from the client's connection to the peer's DATA", "ms", func(i int) float64 { return median(times[i]) })
	return nil
}

func row(list servers, name, unit string, value func(i int) float64) {
	fmt.Printf("| %s |", name)
	for i, s := range list {
		fmt.Printf(" %s %.4g %s |", s.name, value(i), unit)
	}
	if len(list) == 2 {
		a, b := value(0), value(1)
		fmt.Printf(" %.2f times |", max(a, b)/min(a, b))
	}
	fmt.Println()
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}
