package transport_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"mailplusd/cluster/transport"
)

func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	keys := make([]string, 8)
	for i := range keys {
		wg.Go(func() {
			if id, err := transport.LoadIdentity(dir); err != nil {
				t.Error(err)
			} else {
				keys[i] = string(id.PublicKey())
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if k != keys[0] {
			t.Error("two processes made two keys")
		}
	}
	name := filepath.Join(dir, "node.key")
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("left over: %v", files)
	}
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "x", string(good[:60])} {
		if err := os.WriteFile(name, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := transport.LoadIdentity(dir); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	os.WriteFile(name, good, 0o600)
	os.Chmod(name, 0o640)
	if _, err := transport.LoadIdentity(dir); err == nil {
		t.Error("a key that others may read is accepted")
	}
}

func TestOptions(t *testing.T) {
	id := identity(t)
	for name, o := range map[string]transport.Options{
		"no ID":       {Identity: id, Listen: "127.0.0.1:0"},
		"bad ID":      {ID: "a\x1b[2J", Identity: id, Listen: "127.0.0.1:0"},
		"no identity": {ID: "a", Listen: "127.0.0.1:0"},
		"no address":  {ID: "a", Identity: id},
		"bad address": {ID: "a", Identity: id, Listen: "127.0.0.1:x"},
	} {
		if n, err := transport.Open(o); err == nil {
			n.Close()
			t.Errorf("%s accepted", name)
		}
	}
	a, b := node(t, "a"), node(t, "b")
	pb := peerOf(b)
	for name, p := range map[string][]transport.Peer{
		"itself":      {peerOf(a)},
		"twice":       {pb, pb},
		"short key":   {{ID: "b", Key: pb.Key[:31]}},
		"bad address": {{ID: "b", Key: pb.Key, Addrs: []string{"host"}}},
		"bad name":    {{ID: "b c", Key: pb.Key}},
	} {
		if err := a.SetPeers(p...); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
}
