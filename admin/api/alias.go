package api

import "mailplusd/admin/op"

// AliasRow is an alias with its recipients.
type AliasRow struct {
	Name    string   `json:"name" col:"ALIAS"`
	Domain  string   `json:"domain" col:"DOMAIN,wide"`
	Members []string `json:"members" col:"RECIPIENTS"`
}

// AliasAddIn is a new alias.
type AliasAddIn struct {
	Domain  string   `json:"domain" arg:"1" complete:"domain" help:"domain name"`
	Name    string   `json:"name" arg:"2" help:"local part"`
	Members []string `json:"members" arg:"3..." help:"user:NAME, group:NAME, alias:NAME, an address, or a name of whichever there is"`
}

// AliasIn names an alias.
type AliasIn struct {
	Domain string `json:"domain" arg:"1" complete:"domain" help:"domain name"`
	Name   string `json:"name" arg:"2" complete:"alias" help:"local part"`
}

// AliasSetIn replaces, adds or removes recipients.
type AliasSetIn struct {
	Domain string   `json:"domain" arg:"1" complete:"domain" help:"domain name"`
	Name   string   `json:"name" arg:"2" complete:"alias" help:"local part"`
	Member []string `json:"member" flag:"member" help:"all recipients; replaces those there are"`
	Add    []string `json:"add" flag:"add" help:"recipient to add"`
	Remove []string `json:"remove" flag:"remove" help:"recipient to remove"`
	Rename *string  `json:"rename" flag:"rename" help:"new local part"`
}

// AliasImportIn is a Postfix alias file.
type AliasImportIn struct {
	Domain string `json:"domain" arg:"1" complete:"domain" help:"domain name"`
	Text   string `json:"text" file:"file" help:"Postfix alias file (aliases(5)); - reads standard input"`
}

// AliasImportRow is what became of one line.
type AliasImportRow struct {
	Line   int    `json:"line" col:"LINE"`
	Name   string `json:"name" col:"ALIAS"`
	Result string `json:"result" col:"RESULT"` // imported, exists, failed, or left: it is of another hosted domain
	Error  string `json:"error" col:"WHY"`
}

// AliasExportIn names the domain to export.
type AliasExportIn struct {
	Domain string `json:"domain" arg:"1" complete:"domain" help:"domain name"`
}

// AliasExport is a Postfix alias file.
type AliasExport struct {
	Text string `json:"text" raw:"true"`
}

// Aliases (R8.53–R8.66).
var (
	AliasAdd      = op.New[AliasAddIn, AliasRow]("domain alias add", op.Spec{Summary: "add an alias", Effect: op.Create, Examples: []string{"mpctl domain alias add example.com sales carol group:staff partner@elsewhere.example"}})
	AliasList     = op.New[DomainListIn, []AliasRow]("domain alias list", op.Spec{Summary: "list a domain's aliases", Effect: op.Read})
	AliasShow     = op.New[AliasIn, AliasRow]("domain alias show", op.Spec{Summary: "show an alias", Effect: op.Read})
	AliasSet      = op.New[AliasSetIn, AliasRow]("domain alias set", op.Spec{Summary: "change an alias", Effect: op.Update})
	AliasDelete   = op.New[AliasIn, op.None]("domain alias delete", op.Spec{Summary: "delete an alias", Effect: op.Delete})
	AliasImport   = op.New[AliasImportIn, []AliasImportRow]("domain alias import", op.Spec{Summary: "import a Postfix alias file; aliases that exist are left as they are", Effect: op.Create})
	AliasExportOp = op.New[AliasExportIn, AliasExport]("domain alias export", op.Spec{Summary: "write a domain's aliases as a Postfix alias file", Effect: op.Read})
)
