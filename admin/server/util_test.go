package server

import (
	"io"
	"strings"

	"mailplusd/mail/model"
)

func reader(s string) io.Reader { return strings.NewReader(s) }

func defaults() *model.Settings {
	s := model.DefaultSettings()
	return &s
}
