package autoconfig

import (
	"crypto/sha256"
	"encoding/xml"
	"fmt"
)

// plist is Apple's property list; a dictionary is keys and values in turn.
type plist struct {
	XMLName xml.Name `xml:"plist"`
	Version string   `xml:"version,attr"`
	Dict    dict     `xml:"dict"`
}

type dict []entry

type entry struct {
	key   string
	value any // string, int, bool, dict or []dict
}

// MarshalXML implements xml.Marshaler.
func (d dict) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	start.Name.Local = "dict"
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	for _, it := range d {
		if err := e.EncodeElement(it.key, named("key")); err != nil {
			return err
		}
		if err := encodeValue(e, it.value); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}

func named(name string) xml.StartElement { return xml.StartElement{Name: xml.Name{Local: name}} }

func encodeValue(e *xml.Encoder, value any) error {
	switch v := value.(type) {
	case bool:
		return e.EncodeElement("", named(fmt.Sprint(v)))
	case int:
		return e.EncodeElement(v, named("integer"))
	case dict:
		return e.Encode(v)
	case []dict:
		start := named("array")
		if err := e.EncodeToken(start); err != nil {
			return err
		}
		for _, d := range v {
			if err := e.EncodeElement(d, named("dict")); err != nil {
				return err
			}
		}
		return e.EncodeToken(start.End())
	}
	return e.EncodeElement(value, named("string"))
}

// uuid is the same for the same words, so that a profile that is fetched again replaces the old one.
func uuid(words ...string) string {
	sum := sha256.Sum256([]byte(fmt.Sprint(words)))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // version 8, RFC 9562 §5.8
	return fmt.Sprintf("%X-%X-%X-%X-%X", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// apple makes the configuration profile of an address for Apple Mail (com.apple.mail.managed);
// nil when mail can't be both read and sent. The password is asked for by the device.
func apple(address, domain string, list []Service) ([]byte, error) {
	in, kind := first(list, "imap"), "EmailTypeIMAP"
	if in == nil {
		in, kind = first(list, "pop3"), "EmailTypePOP"
	}
	out := first(list, "smtp")
	if in == nil || out == nil {
		return nil, nil
	}
	account := dict{
		{"PayloadType", "com.apple.mail.managed"}, {"PayloadVersion", 1},
		{"PayloadIdentifier", "mail." + domain}, {"PayloadUUID", uuid("account", address)},
		{"PayloadDisplayName", address},
		{"EmailAccountType", kind}, {"EmailAddress", address}, {"EmailAccountDescription", domain},
		{"IncomingMailServerHostName", in.Host}, {"IncomingMailServerPortNumber", in.Port},
		{"IncomingMailServerUseSSL", in.Security != Clear}, {"IncomingMailServerUsername", address},
		{"IncomingMailServerAuthentication", "EmailAuthPassword"},
		{"OutgoingMailServerHostName", out.Host}, {"OutgoingMailServerPortNumber", out.Port},
		{"OutgoingMailServerUseSSL", out.Security != Clear}, {"OutgoingMailServerUsername", address},
		{"OutgoingMailServerAuthentication", "EmailAuthPassword"}, {"OutgoingPasswordSameAsIncomingPassword", true},
	}
	return document(plist{Version: "1.0", Dict: dict{
		{"PayloadType", "Configuration"}, {"PayloadVersion", 1},
		{"PayloadIdentifier", domain}, {"PayloadUUID", uuid("profile", address)},
		{"PayloadDisplayName", "Mail of " + domain}, {"PayloadContent", []dict{account}},
	}})
}
