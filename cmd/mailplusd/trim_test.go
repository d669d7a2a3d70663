package main

import (
	"testing"
	"time"
)

// TestTrimmer: memory goes back once after work has ended, not during it and not too often.
func TestTrimmer(t *testing.T) {
	var tr trimmer
	start := time.Now()
	var allocated uint64
	for i, step := range []struct {
		after time.Duration
		more  uint64
		want  bool
	}{
		{0, 100 << 20, false},                // the start
		{5 * time.Second, 1 << 20, true},     // quiet
		{10 * time.Second, 1 << 20, false},   // nothing new worth it
		{15 * time.Second, 200 << 20, false}, // work
		{20 * time.Second, 0, false},         // quiet, but too soon
		{35 * time.Second, 0, true},
		{70 * time.Second, trimQuiet, false}, // steady work
		{75 * time.Second, trimQuiet, false},
		{80 * time.Second, trimQuiet - 1, true},
	} {
		allocated += step.more
		if got := tr.due(allocated, start.Add(step.after)); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
}
