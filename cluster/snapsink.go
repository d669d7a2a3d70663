package cluster

import (
	"fmt"
	"io"
	"os"
)

// pointerSink takes a snapshot. Nothing is written to it when it is our own; what is
// written is the leader's state stream.
type pointerSink struct {
	s    *snapStore
	meta *snapMeta

	pipe *io.PipeWriter
	done chan struct{}
	man  *manifest // set before done is closed, unless err is
	err  error
}

func (k *pointerSink) ID() string { return k.meta.Raft.ID }

// Write unpacks the stream as it comes: a second copy of a large state isn't needed.
func (k *pointerSink) Write(p []byte) (int, error) {
	if k.pipe == nil {
		dir := k.s.state(k.ID())
		if err := os.Mkdir(dir, 0o700); err != nil {
			return 0, fmt.Errorf("cluster: %w", err)
		}
		var r *io.PipeReader
		r, k.pipe = io.Pipe()
		k.done = make(chan struct{})
		go func() {
			defer close(k.done)
			k.man, k.err = unpack(r, dir)
			if k.err == nil {
				_, k.err = io.Copy(io.Discard, r) // padding after the manifest
			}
			r.CloseWithError(k.err)
		}()
	}
	return k.pipe.Write(p)
}

// Close makes the snapshot the one in force.
func (k *pointerSink) Close() error {
	if k.pipe == nil {
		return k.s.put(k.meta)
	}
	k.pipe.Close()
	<-k.done
	if k.err != nil {
		os.RemoveAll(k.s.state(k.ID()))
		return k.err
	}
	if err := syncDir(k.s.dir); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	k.meta.Kind, k.meta.Applied = kindReceived, k.man.Applied
	k.meta.Replaces, k.meta.Files = k.s.foreign(), len(k.man.Files)
	for _, f := range k.man.Files {
		k.meta.Octets += f.Size
	}
	return k.s.put(k.meta)
}

// Cancel forgets what has come.
func (k *pointerSink) Cancel() error {
	if k.pipe == nil {
		return nil
	}
	k.pipe.CloseWithError(io.ErrUnexpectedEOF)
	<-k.done
	return os.RemoveAll(k.s.state(k.ID()))
}
