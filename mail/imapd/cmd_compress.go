package imapd

import "strings"

// doCompress is RFC 4978: from the answer on both ways are compressed.
func (ss *session) doCompress(tag, text string) error {
	word := strings.TrimPrefix(text, " ")
	switch {
	case word == text || word == "" || strings.Contains(word, " "):
		return ss.refuse(text, bad{"COMPRESS needs a mechanism"})
	case !strings.EqualFold(word, "DEFLATE"):
		return ss.refuse(text, no{"CANNOT", "only DEFLATE is offered"})
	case ss.c.Compressed():
		return no{"COMPRESSIONACTIVE", "compression is active already"}
	}
	ss.put(tag, " OK DEFLATE active\r\n")
	if err := ss.send(); err != nil {
		return &connError{err}
	}
	if err := ss.c.StartCompression(); err != nil {
		return &connError{err}
	}
	return errTagged
}

func (ss *session) canCompress() bool { return !ss.c.Compressed() }
