package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
)

// checkPorts speaks to every enabled listener (R2.55, R2.61 as far as can be seen from here).
func (s *Server) checkPorts(ctx context.Context, _ *Call, _ *op.None) ([]api.Finding, error) {
	f := findings{}
	for _, l := range s.listeners(s.mail.State.Current()) {
		if !l.Enabled {
			continue
		}
		subject := fmt.Sprintf("%s, port %d", l.Name, l.Port)
		if l.Address == "" {
			f.add("error", "ports", subject, "free the port, or mpctl service "+strings.TrimSuffix(l.Name, "s")+" set --port OTHER", "is not open: %s", l.Error)
			continue
		}
		greeting, err := greetListener(ctx, &l, l.Address)
		if err != nil {
			f.add("error", "ports", subject, "mpctl service show; journalctl -u mailplusd", "does not answer at %s: %v", l.Address, err)
			continue
		}
		f.add("ok", "ports", subject, "", "answers: %s", greeting)
	}
	return f, s.portsOutside(ctx, &f)
}

// portsOutside tries the enabled ports at the public addresses (R2.55, R2.61). Behind NAT that goes
// through the router, so that an answer of this server shows that it forwards the port.
func (s *Server) portsOutside(ctx context.Context, f *findings) error {
	set := s.mail.State.Current()
	ips, err := s.publicAddresses(nil)
	if err != nil || len(set.Network.PublicIP) == 0 && !slices.ContainsFunc(ips, func(ip netip.Addr) bool { return !ip.IsPrivate() }) {
		f.add("info", "ports", "from outside", "mpctl config set network.public-address=ADDRESS", "the public address is not known, so the way through router and firewall can't be tried")
		return err
	}
	here, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, ip := range ips {
		behind := !slices.ContainsFunc(here, func(a net.Addr) bool {
			p, err := netip.ParsePrefix(a.String())
			return err == nil && p.Addr() == ip
		})
		for _, l := range s.listeners(set) {
			if l.Enabled {
				f.reach(ctx, l, ip, set.System.Hostname, behind)
			}
		}
	}
	return nil
}

// reach tries one port at one public address.
func (f *findings) reach(ctx context.Context, l api.Listener, ip netip.Addr, host string, behind bool) {
	at := net.JoinHostPort(ip.String(), strconv.Itoa(l.Port))
	subject := fmt.Sprintf("%s at %s", l.Name, at)
	greeting, err := greetListener(ctx, &l, at)
	remedy := fmt.Sprintf("let TCP port %d through the firewall to this machine", l.Port)
	if behind {
		remedy = fmt.Sprintf("forward TCP port %d of the router to this machine; then try from another network: telnet %s %d", l.Port, ip, l.Port)
	}
	smtp := l.TLS == "STARTTLS required" || strings.HasPrefix(l.Name, "smtp")
	switch {
	case err != nil && behind:
		f.add("warning", "ports", subject, remedy, "no answer through the router: %v; the port is not forwarded, or the router lets nobody in from inside", err)
	case err != nil:
		f.add("error", "ports", subject, remedy, "no answer: %v", err)
	case smtp && !strings.Contains(greeting, host):
		f.add("error", "ports", subject, remedy, "another server answers there: %.100s", greeting)
	case behind:
		f.add("ok", "ports", subject, "", "forwarded to this server")
	default:
		f.add("ok", "ports", subject, "", "this server answers at its public address")
	}
}

// greetListener gives the first line that a listener says, over HTTP to the simplest question.
func greetListener(ctx context.Context, l *api.Listener, address string) (string, error) {
	question := ""
	if strings.HasPrefix(l.Name, "autoconfig") {
		question = "HEAD / HTTP/1.0\r\n\r\n"
	}
	return firstLine(ctx, address, l.TLS == "implicit", question)
}

func greet(ctx context.Context, address string, implicit bool) (string, error) {
	return firstLine(ctx, address, implicit, "")
}

func firstLine(ctx context.Context, address string, implicit bool, question string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if implicit {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // our own listener: that it speaks TLS is the question
	}
	if _, err := io.WriteString(c, question); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}
