package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailplusd/admin/client"
	"mailplusd/admin/op"
	"mailplusd/mail/certs"
)

// dribble writes text and then spaces, a byte at a time, until the server has closed the
// connection. It fails when that doesn't happen.
func dribble(t *testing.T, c net.Conn, start, text string) {
	t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c)
		done <- err
	}()
	io.WriteString(c, start)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		b := []byte(" ")
		if i < len(text) {
			b[0] = text[i]
		}
		select {
		case <-tick.C:
			c.Write(b)
		case err := <-done:
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Errorf("%.40q: still open after a minute", start+text)
			}
			return
		}
	}
}

// TestSlowClients: who sends a byte now and then is ended, with a right to call or without, and
// others are served all the while.
func TestSlowClients(t *testing.T) {
	s := testNode(t, "n1", nil)
	s.patience = patience{header: time.Second, input: time.Second, row: time.Second, write: time.Second}
	socket := filepath.Join(t.TempDir(), "s")
	ul, err := ListenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(ul)
	cert, err := certs.SelfSigned("one", []string{"localhost"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keys := certs.NewKeyring()
	if err := keys.Load([]certs.Certificate{*cert}, "one"); err != nil {
		t.Fatal(err)
	}
	tl, err := tls.Listen("tcp", "127.0.0.1:0", keys.Config())
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(tl)
	t.Cleanup(func() { shut(s) })

	dialTLS := func() net.Conn {
		c, err := tls.Dial("tcp", tl.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	dial := func(network, addr string) net.Conn {
		c, err := net.Dial(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	request := func(path string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n", path)
	}
	var wg sync.WaitGroup
	for _, slow := range []struct {
		c           net.Conn
		start, text string
	}{
		{dial("tcp", tl.Addr().String()), "", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"},
		{dialTLS(), "", "POST /v1/status HTTP/1.1\r\n"},
		{dialTLS(), request(op.Path(opEcho)), `{"text":"`},
		{dial("unix", socket), request(op.Path(opEcho)), `{"text":"`},
		{dial("unix", socket), request(op.Path(opStream)), `{`},
		{dial("unix", socket), strings.ReplaceAll(request(op.Path(opEcho)), "Content-Length: 5000", "Transfer-Encoding: chunked") + "1388\r\n", `{"text":"`},
	} {
		wg.Go(func() { dribble(t, slow.c, slow.start, slow.text) })
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	c, err := client.New(client.Options{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	served := 0
	for more := true; more; {
		if _, err := c.Call(t.Context(), op.Path(opHere), struct{}{}, false); err == nil {
			served++
		}
		select {
		case <-ended:
			more = false
		default:
		}
	}
	if served == 0 {
		t.Error("nobody was served meanwhile")
	}
	if len(s.slots) != 0 {
		t.Errorf("%d calls are still under way", len(s.slots))
	}
}

// TestAnswerTakesLongerThanInput: the time limit of the input is none of the work.
func TestAnswerTakesLongerThanInput(t *testing.T) {
	s := testNode(t, "n1", nil)
	s.patience = patience{header: time.Second, input: time.Second, row: time.Second, write: time.Second}
	bind(s, opStream, func(ctx context.Context, c *Call, _ *op.None) (echoOut, error) {
		select {
		case <-time.After(1500 * time.Millisecond):
			return echoOut{}, c.Emit(echoOut{Who: "patient"})
		case <-ctx.Done():
			return echoOut{}, ctx.Err()
		}
	})
	socket := filepath.Join(t.TempDir(), "s")
	l, err := ListenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(l)
	t.Cleanup(func() { shut(s) })
	for _, body := range []string{"", "{}"} {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", op.Path(opStream), len(body), body)
		out, err := io.ReadAll(bufio.NewReader(c))
		if err != nil || !strings.Contains(string(out), "patient") {
			t.Errorf("body %q: %v\n%s", body, err, out)
		}
	}
}

func TestTooManyConnections(t *testing.T) {
	limit := limitConns(2)
	a, b := net.Pipe()
	c, d := net.Pipe()
	e, f := net.Pipe()
	limit(a, http.StateNew)
	limit(c, http.StateNew)
	limit(e, http.StateNew)
	if _, err := f.Write([]byte("x")); err == nil {
		t.Error("the third is open")
	}
	limit(e, http.StateClosed)
	limit(a, http.StateClosed)
	g, h := net.Pipe()
	limit(g, http.StateNew)
	for _, c := range []net.Conn{c, g} {
		if err := c.SetDeadline(time.Now()); err != nil {
			t.Errorf("closed: %v", err)
		}
		c.Close()
	}
	b.Close()
	d.Close()
	h.Close()
}
