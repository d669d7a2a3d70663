package main

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// passwordFile keeps a made-up password of the dev command for the next start.
const passwordFile = "dev-password"

// devPasswordOf gives the password of alice and bob: MAILPLUSD_DEV_PASSWORD, the one made up
// before, or a new one.
func devPasswordOf(dir string) (string, error) {
	if p := os.Getenv("MAILPLUSD_DEV_PASSWORD"); p != "" {
		return p, nil
	}
	path := filepath.Join(dir, passwordFile)
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	var raw [10]byte
	rand.Read(raw[:])
	p := strings.ToLower(base32.StdEncoding.EncodeToString(raw[:]))
	return p, os.WriteFile(path, []byte(p+"\n"), 0o600)
}

// setUpDev makes the system of the dev command in an empty data directory.
func (n *node) setUpDev(ctx context.Context) error {
	if !n.cfg.Dev {
		return nil
	}
	password, err := devPasswordOf(n.cfg.Data)
	if err != nil {
		return err
	}
	made, err := n.admin.SetUpDev(ctx, []byte(password), n.cfg.PortOffset)
	if err != nil {
		return err
	}
	n.devPassword, n.devMade = password, made
	return nil
}

// announce prints what to do with a dev system.
func (n *node) announce() {
	if !n.cfg.Dev {
		n.log.Info("ready", "name", n.cfg.Name, "data", n.cfg.Data, "socket", n.cfg.Socket)
		return
	}
	port := func(p int) int { return p + n.cfg.PortOffset }
	send := fmt.Sprintf("swaks --server 127.0.0.1:%d --from you@elsewhere.example --to alice@example.test --header 'Subject: hello'", port(2525))
	if _, err := exec.LookPath("swaks"); err != nil {
		send = fmt.Sprintf("bin/mpctl --socket %s mail send --to alice@example.test --subject hello --text 'first mail'", n.cfg.Socket)
	}
	if !n.devMade && os.Getenv("MAILPLUSD_DEV_PASSWORD") != "" {
		fmt.Println("Going on with existing data: the accounts keep the password they have.")
	}
	fmt.Printf(`mailplusd is ready: alice@example.test (administrator) and bob@example.test, password %s
SMTP %d, SMTPS %d, submission %d, IMAP %d/%d, POP3 %d/%d on 127.0.0.1; data in %s

  send    %s
  read    curl -s --user 'alice:%s' 'imap://127.0.0.1:%d/INBOX;MAILINDEX=1'
  status  bin/mpctl --socket %s status

Ctrl-C stops it; the next start goes on with the same mail.
`, n.devPassword, port(2525), port(2465), port(2587), port(2143), port(2993), port(2110), port(2995), n.cfg.Data,
		send, n.devPassword, port(2143), n.cfg.Socket)
}
