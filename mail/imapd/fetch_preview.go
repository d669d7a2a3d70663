package imapd

import "mailplusd/mail/message"

// preview writes PREVIEW (RFC 8970): the beginning of the text, made from the message each time.
func (f *fetch) preview(b *opened) error {
	raw, root, err := b.parsed()
	if err != nil {
		return err
	}
	text := message.Preview(raw, root)
	f.ss.put("PREVIEW {")
	f.ss.putInt(int64(len(text)))
	f.ss.put("}\r\n", text)
	return nil
}
