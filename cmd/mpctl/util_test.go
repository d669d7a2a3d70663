package main

import (
	"io"
	"strings"
)

type writer []byte

func (w *writer) Write(p []byte) (int, error) { *w = append(*w, p...); return len(p), nil }

func reader(s string) io.Reader { return strings.NewReader(s) }
