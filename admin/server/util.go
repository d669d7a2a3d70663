package server

import (
	"net/netip"
	"runtime"
	"strconv"
	"sync"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func addrOf(hostport string) (netip.Addr, error) {
	ap, err := netip.ParseAddrPort(hostport)
	return ap.Addr().Unmap(), err
}

// parallel calls f for 0…n-1 on all cores.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range next {
				f(i)
			}
		}()
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

func srvValue(port int, host string) string { return "0 " + strconv.Itoa(port) + " " + host + "." }
