package exchange

import _ "embed"

// Script is ExchangeConfigExport.ps1: it runs on an Exchange server and writes the two files.
//
//go:embed ExchangeConfigExport.ps1
var Script string

// Names of the files that Script writes.
const (
	ScriptFile = "ExchangeConfigExport.ps1"
	ConfigFile = "SynologyExportedExchangeConf.xml"
	AliasFile  = "SynologyExportedAlias.txt"
)
