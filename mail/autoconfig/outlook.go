package autoconfig

import (
	"bytes"
	"encoding/xml"
	"errors"
	"strings"
)

// Autodiscover as Outlook asks for it: Microsoft's open specification MS-OXDSCLI, plain old XML.
const (
	schemaResponse = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
	schemaOutlook  = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
)

type outlookRequest struct {
	XMLName xml.Name `xml:"Autodiscover"`
	Request struct {
		EMailAddress string `xml:"EMailAddress"`
		Schema       string `xml:"AcceptableResponseSchema"`
	} `xml:"Request"`
}

type outlookResponse struct {
	XMLName  xml.Name `xml:"Autodiscover"`
	XMLNS    string   `xml:"xmlns,attr"`
	Response outlookBody
}

type outlookBody struct {
	XMLName xml.Name        `xml:"Response"`
	XMLNS   string          `xml:"xmlns,attr,omitempty"`
	Account *outlookAccount `xml:"Account,omitempty"`
	Error   *outlookError   `xml:"Error,omitempty"`
}

type outlookError struct {
	Code    int    `xml:"ErrorCode"`
	Message string `xml:"Message"`
}

type outlookAccount struct {
	Type     string            `xml:"AccountType"`
	Action   string            `xml:"Action"`
	Protocol []outlookProtocol `xml:"Protocol"`
}

type outlookProtocol struct {
	Type           string `xml:"Type"`
	Server         string `xml:"Server"`
	Port           int    `xml:"Port"`
	LoginName      string `xml:"LoginName"`
	DomainRequired string `xml:"DomainRequired"`
	SPA            string `xml:"SPA"`
	SSL            string `xml:"SSL"`
	Encryption     string `xml:"Encryption"`
	AuthRequired   string `xml:"AuthRequired"`
}

// readOutlook reads a request. Its decoder knows no entities and reads no external documents.
func readOutlook(body []byte) (address string, err error) {
	var req outlookRequest
	if err := xml.NewDecoder(bytes.NewReader(body)).Decode(&req); err != nil {
		return "", err
	}
	if req.Request.Schema != "" && req.Request.Schema != schemaOutlook {
		return "", errors.New("only the Outlook schema is answered")
	}
	return strings.TrimSpace(req.Request.EMailAddress), nil
}

// outlook makes the answer for an address; only the best service of each kind, as Outlook takes one.
func outlook(address string, list []Service) ([]byte, error) {
	acc := &outlookAccount{Type: "email", Action: "settings"}
	for _, kind := range []string{"imap", "pop3", "smtp"} {
		s := first(list, kind)
		if s == nil {
			continue
		}
		p := outlookProtocol{Type: strings.ToUpper(kind), Server: s.Host, Port: s.Port, LoginName: address, DomainRequired: "off", SPA: "off", AuthRequired: "on"}
		switch s.Security {
		case Implicit:
			p.SSL, p.Encryption = "on", "SSL"
		case StartTLS:
			p.SSL, p.Encryption = "on", "TLS"
		default:
			p.SSL, p.Encryption = "off", "None"
		}
		acc.Protocol = append(acc.Protocol, p)
	}
	return document(outlookResponse{XMLNS: schemaResponse, Response: outlookBody{XMLNS: schemaOutlook, Account: acc}})
}

// outlookRefusal is the answer for an address that is not ours (error 500: no such provider).
func outlookRefusal() ([]byte, error) {
	return document(outlookResponse{XMLNS: schemaResponse, Response: outlookBody{Error: &outlookError{Code: 500, Message: "no settings are known for this address"}}})
}
