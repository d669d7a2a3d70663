package message

// LargestAttachment gives the decoded size, in octets, and the file name of the largest attachment of
// a message that is larger than floor; 0 when there is none. An attachment is a message/rfc822 part,
// or a part without parts that is not shown with the text (I.37), see Part.IsAttachment.
func LargestAttachment(raw []byte, lim Limits, floor int64) (size int64, name string) {
	t, found := Walk(raw, lim), false
	size = floor
	eachAttachment(t.Root, false, func(p *Part) {
		if int64(p.End-p.BodyStart) <= size { // decoded it is not larger
			return
		}
		if n := decodedSize(raw, p); n > size {
			size, name, found = n, p.FileName(), true
		}
	})
	if !found {
		return 0, ""
	}
	return size, name
}

// eachAttachment calls fn for attachments. shown: the part belongs to a text that is shown.
func eachAttachment(p *Part, shown bool, fn func(*Part)) {
	if p.Message == nil && len(p.Parts) > 0 {
		for _, sub := range p.Parts {
			eachAttachment(sub, p.Subtype == "RELATED" && sub.ID != "", fn)
		}
		return
	}
	if p.IsAttachment(shown) {
		fn(p)
	}
}

// IsAttachment tells whether a part without parts is a file rather than something that is shown with the
// text. Content-Disposition says so, and a kind of disposition that nobody knows is an attachment (RFC
// 2183 §2.8). A part without a disposition is shown when it is text without a file name, or when it is
// in a multipart/related and has a Content-ID by which the text refers to it (shown).
func (p *Part) IsAttachment(shown bool) bool {
	switch {
	case p.Type == "MESSAGE" && (p.Subtype == "RFC822" || p.Subtype == "GLOBAL"):
		return true
	case p.Disposition == "INLINE":
		return false
	case p.Disposition != "":
		return true
	case shown:
		return false
	}
	return p.Type != "TEXT" || p.FileName() != ""
}

func decodedSize(raw []byte, p *Part) (n int64) {
	DecodeTransfer(p.Encoding, raw[p.BodyStart:p.End], func(b []byte) error {
		n += int64(len(b))
		return nil
	})
	return n
}
