package share_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"

	"mailplusd/mail/wire"
)

// BenchmarkThroughput compares a session that is handed over with one that is not: octets
// from the server to the client, in clear and with TLS.
func BenchmarkThroughput(b *testing.B) {
	for _, secure := range []bool{false, true} {
		for _, away := range []bool{false, true} {
			b.Run(fmt.Sprintf("tls=%v/away=%v", secure, away), func(b *testing.B) {
				n, peer := two(b, func(c *wire.Config) {
					if c.ImplicitTLS = secure; secure {
						c.TLS = func(*tls.ClientHelloInfo) (*tls.Config, error) { return serverTLS(b), nil }
					}
				})
				if away {
					n.handsAll(peer)
				}
				conn, err := net.Dial("tcp", n.l.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				if secure {
					conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
				}
				buf := make([]byte, 1<<16)
				if _, err := conn.Read(buf); err != nil {
					b.Fatal(err)
				}
				if n.l.Away() == 1 != away {
					b.Fatal("the session is in the wrong place")
				}
				io.WriteString(conn, "flood\n")
				b.SetBytes(int64(len(buf)))
				b.ResetTimer()
				for b.Loop() {
					if _, err := io.ReadFull(conn, buf); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkIdle measures what one idle session that is handed over costs both nodes of this
// process together, and one that is served where it came in.
func BenchmarkIdle(b *testing.B) {
	for _, away := range []bool{false, true} {
		b.Run(fmt.Sprintf("away=%v", away), func(b *testing.B) {
			n, peer := two(b)
			want := "served by a"
			if away {
				n.handsAll(peer)
				want = "served by b"
			}
			use := func() uint64 {
				var m runtime.MemStats
				runtime.GC()
				runtime.GC()
				runtime.ReadMemStats(&m)
				return m.HeapAlloc + m.StackInuse
			}
			before := use()
			const sessions = 1000
			for range sessions {
				defer dialUntil(b, n, want).Close()
			}
			after := use()
			for b.Loop() {
			}
			b.ReportMetric(float64(after-before)/sessions, "B/session")
		})
	}
}
