package wire

import (
	"bufio"
	"io"
	"log"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
)

// sink reads messages and forgets them.
type sink struct{ fast bool }

func (b sink) NewSession(c *smtp.Conn) (smtp.Session, error) {
	s := &sinkSession{session: session{b: &backend{}}}
	if b.fast {
		s.g = FromSMTP(c.Conn())
	}
	return s, nil
}

type sinkSession struct{ session }

func (s *sinkSession) Rcpt(string, *smtp.RcptOptions) error { return nil }

func (s *sinkSession) Data(r io.Reader) error {
	if s.g != nil {
		r = s.g.Body(r)
	}
	buf := make([]byte, 32<<10)
	for {
		if _, err := r.Read(buf); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// benchData sends messages of a size over one connection.
func benchData(b *testing.B, size int, gate, fast bool) {
	var l net.Listener
	var err error
	if gate {
		l, err = Listen("tcp", "127.0.0.1:0", Config{Protocol: SMTP(&SMTPConfig{Hostname: "mx.test"})})
	} else {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		b.Fatal(err)
	}
	srv := smtp.NewServer(sink{fast})
	srv.ErrorLog = log.New(io.Discard, "", 0)
	if gate {
		srv.MaxLineLength = 0
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	defer func() { _ = srv.Close(); <-done }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	p := &peer{Conn: c, r: bufio.NewReader(c), t: b}
	p.want("220 ")
	p.do("EHLO me.test", "250")
	line := strings.Repeat("x", 76) + "\r\n"
	body := strings.Repeat(line, max(1, size/len(line))) + ".\r\n"
	b.SetBytes(int64(len(body)))
	b.ResetTimer()
	for range b.N {
		p.send("MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n")
		p.want("250")
		p.want("250")
		p.want("354")
		p.send(body)
		p.want("250")
	}
}

// BenchmarkData compares go-smtp alone, behind the gate, and read through Body.
func BenchmarkData(b *testing.B) {
	for _, size := range []int{4 << 10, 16 << 20} {
		name := strconv.Itoa(size>>10) + "K"
		b.Run("stock/"+name, func(b *testing.B) { benchData(b, size, false, false) })
		b.Run("gate/"+name, func(b *testing.B) { benchData(b, size, true, false) })
		b.Run("body/"+name, func(b *testing.B) { benchData(b, size, true, true) })
	}
}

// BenchmarkScan is the end-of-data scanner alone.
func BenchmarkScan(b *testing.B) {
	src := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 400))
	dst := make([]byte, len(src))
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for range b.N {
		s := body{bol: true, maxLine: 1000}
		s.scan(dst, src)
	}
}
