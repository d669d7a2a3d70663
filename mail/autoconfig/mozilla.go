package autoconfig

import "encoding/xml"

// clientConfig is the format of Thunderbird, Evolution, KMail, FairEmail and others,
// https://wiki.mozilla.org/Thunderbird:Autoconfiguration:ConfigFileFormat, version 1.1.
type clientConfig struct {
	XMLName  xml.Name      `xml:"clientConfig"`
	Version  string        `xml:"version,attr"`
	Provider emailProvider `xml:"emailProvider"`
}

type emailProvider struct {
	ID        string          `xml:"id,attr"`
	Domain    string          `xml:"domain"`
	Name      string          `xml:"displayName"`
	ShortName string          `xml:"displayShortName"`
	Incoming  []mozillaServer `xml:"incomingServer"`
	Outgoing  []mozillaServer `xml:"outgoingServer"`
}

type mozillaServer struct {
	Type     string `xml:"type,attr"`
	Hostname string `xml:"hostname"`
	Port     int    `xml:"port"`
	Socket   string `xml:"socketType"`
	Auth     string `xml:"authentication"`
	Username string `xml:"username"`
}

// mozilla makes the configuration of a domain. The client puts the address in itself.
func mozilla(domain string, list []Service) ([]byte, error) {
	p := emailProvider{ID: domain, Domain: domain, Name: domain, ShortName: domain}
	for _, s := range list {
		srv := mozillaServer{Type: s.Kind, Hostname: s.Host, Port: s.Port, Socket: s.Security, Auth: "password-cleartext", Username: "%EMAILADDRESS%"}
		if s.Kind == "smtp" {
			p.Outgoing = append(p.Outgoing, srv)
		} else {
			p.Incoming = append(p.Incoming, srv)
		}
	}
	return document(clientConfig{Version: "1.1", Provider: p})
}

func document(v any) ([]byte, error) {
	b, err := xml.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(append([]byte(xml.Header), b...), '\n'), nil
}
