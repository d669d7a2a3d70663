package message

import "bytes"

// decodePiece is how much DecodeTransfer gives at a time.
const decodePiece = 32 << 10

// KnownTransfer tells whether DecodeTransfer knows an encoding.
func KnownTransfer(encoding string) bool {
	return identity(encoding) || encoding == "BASE64" || encoding == "QUOTED-PRINTABLE"
}

// DecodeTransfer removes a transfer encoding (RFC 2045 §6) and gives the octets in pieces that are valid
// during emit only. It never fails on its input: what is no base64 is passed over, what is no
// quoted-printable is kept, an unknown encoding changes nothing. The error is emit's.
func DecodeTransfer(encoding string, raw []byte, emit func([]byte) error) error {
	switch encoding {
	case "BASE64":
		return decodeBase64(raw, emit)
	case "QUOTED-PRINTABLE":
		return decodeQuoted(raw, emit)
	}
	for len(raw) > 0 {
		n := min(len(raw), decodePiece)
		if err := emit(raw[:n]); err != nil {
			return err
		}
		raw = raw[n:]
	}
	return nil
}

var sextets = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	return t
}()

func decodeBase64(raw []byte, emit func([]byte) error) error {
	out := make([]byte, 0, decodePiece+4)
	var acc uint32
	n := 0
	end := func() { // of a run of sextets: what is left over of the last group counts
		switch n {
		case 2:
			out = append(out, byte(acc>>4))
		case 3:
			out = append(out, byte(acc>>10), byte(acc>>2))
		}
		acc, n = 0, 0
	}
	for _, c := range raw {
		s := sextets[c]
		if s == 0xff {
			if c == '=' {
				end()
			}
			continue
		}
		acc = acc<<6 | uint32(s)
		if n++; n == 4 {
			out = append(out, byte(acc>>16), byte(acc>>8), byte(acc))
			acc, n = 0, 0
			if len(out) >= decodePiece {
				if err := emit(out); err != nil {
					return err
				}
				out = out[:0]
			}
		}
	}
	end()
	if len(out) == 0 {
		return nil
	}
	return emit(out)
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

func decodeQuoted(raw []byte, emit func([]byte) error) error {
	out := make([]byte, 0, decodePiece)
	for len(raw) > 0 {
		line := raw
		if i := bytes.IndexByte(raw, '\n'); i >= 0 {
			line = raw[:i+1]
		}
		raw = raw[len(line):]
		text := bytes.TrimRight(line, "\r\n")
		eol := line[len(text):]
		if len(eol) > 0 {
			text = bytes.TrimRight(text, " \t") // added on the way (RFC 2045 §6.7 (3))
		}
		if soft, ok := bytes.CutSuffix(text, []byte("=")); ok {
			text, eol = soft, nil
		}
		for len(text) > 0 {
			if len(out)+1 > decodePiece {
				if err := emit(out); err != nil {
					return err
				}
				out = out[:0]
			}
			if text[0] == '=' && len(text) >= 3 {
				hi, ok1 := hexDigit(text[1])
				lo, ok2 := hexDigit(text[2])
				if ok1 && ok2 {
					out = append(out, hi<<4|lo)
					text = text[3:]
					continue
				}
			}
			out = append(out, text[0])
			text = text[1:]
		}
		out = append(out, eol...)
		if len(out) > decodePiece {
			if err := emit(out); err != nil {
				return err
			}
			out = out[:0]
		}
	}
	if len(out) == 0 {
		return nil
	}
	return emit(out)
}
