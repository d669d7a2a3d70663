package wire

import (
	"net"
	"os/exec"
	"testing"
)

// TestSwaks drives the gate with a client of the field: plain, STARTTLS with
// AUTH, and pipelined.
func TestSwaks(t *testing.T) {
	bin, err := exec.LookPath("swaks")
	if err != nil {
		t.Skip("swaks is not installed")
	}
	be := &backend{}
	l := serve(t, be, &SMTPConfig{RejectPipelining: true}, Config{TLS: testTLS})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	base := []string{"--server", "127.0.0.1", "--port", port, "--from", "a@x.test", "--to", "b@x.test,c@x.test", "--ehlo", "me.test"}
	for i, extra := range [][]string{
		nil, {"--pipeline"},
		{"-tls", "--auth", "PLAIN", "--auth-user", "u", "--auth-password", "p"},
	} {
		out, err := exec.Command(bin, append(append([]string(nil), base...), extra...)...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v\n%s", extra, err, out)
		}
		if n := len(be.got()); n != i+1 {
			t.Errorf("%v: %d messages", extra, n)
		}
	}
}

// TestSMTPSource sends messages over parallel sessions with Postfix's load tool.
func TestSMTPSource(t *testing.T) {
	bin, err := exec.LookPath("smtp-source")
	if err != nil {
		t.Skip("smtp-source (postfix) is not installed")
	}
	be := &backend{}
	l := serve(t, be, &SMTPConfig{RejectPipelining: true}, Config{})
	out, err := exec.Command(bin, "-s", "5", "-m", "100", "-l", "4096", "-d", "-f", "a@x.test", "-t", "b@x.test",
		"inet:"+l.Addr().String()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := len(be.got()); n != 100 {
		t.Errorf("%d messages", n)
	}
}
