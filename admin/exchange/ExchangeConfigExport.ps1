<#
.SYNOPSIS
Writes the settings and the aliases of this Exchange server into two files, for mailplusd.

.DESCRIPTION
Run it as administrator on the Exchange server, best in the Exchange Management Shell. It only reads.
It writes SynologyExportedExchangeConf.xml (settings) and SynologyExportedAlias.txt (aliases) into
the current folder, or into the one that -OutputFolder names. Passwords are not exported.

Take the files to the mail server:
  mpctl import exchange SynologyExportedExchangeConf.xml
  mpctl domain alias import example.com --file SynologyExportedAlias.txt
#>
param(
    [string]$OutputFolder = (Get-Location).Path
)

$ErrorActionPreference = 'Stop'

# Outside of the Exchange Management Shell its cmdlets are loaded here.
if (-not (Get-Command 'Get-TransportConfig' -ErrorAction SilentlyContinue)) {
    $names = 'Microsoft.Exchange.Management.PowerShell.SnapIn', 'Microsoft.Exchange.Management.PowerShell.E2010'
    foreach ($name in $names) {
        Add-PSSnapin $name -ErrorAction SilentlyContinue
    }
}
if (-not (Get-Command 'Get-TransportConfig' -ErrorAction SilentlyContinue)) {
    throw 'The cmdlets of Exchange are not there. Run this script in the Exchange Management Shell.'
}

$server = $env:COMPUTERNAME
$version = (Get-ExchangeServer $server).AdminDisplayVersion

# Text of a value, the same on a machine of any language.
function Get-Text($value) {
    if ($null -eq $value) { return '' }
    $text = [System.Convert]::ToString($value, [System.Globalization.CultureInfo]::InvariantCulture)
    return [regex]::Replace($text, '[\x00-\x08\x0B\x0C\x0E-\x1F\uD800-\uDFFF\uFFFE\uFFFF]', '')
}

# One object with the properties that are named.
function Write-Object($xml, [string]$type, [string]$name, $object, [string[]]$properties) {
    $xml.WriteStartElement('object')
    $xml.WriteAttributeString('type', $type)
    $xml.WriteAttributeString('name', $name)
    foreach ($property in $properties) {
        if ($null -eq $object.$property) { continue }
        $xml.WriteStartElement('property')
        $xml.WriteAttributeString('name', $property)
        foreach ($value in @($object.$property)) {
            $xml.WriteElementString('value', (Get-Text $value))
        }
        $xml.WriteEndElement()
    }
    $xml.WriteEndElement()
}

# All that a cmdlet answers. What fails is written down, and the rest goes on.
function Write-All($xml, [string]$type, [scriptblock]$get, [string[]]$properties) {
    try {
        $list = @(& $get)
    } catch {
        $reason = New-Object PSObject -Property @{ Reason = $_.Exception.Message }
        Write-Object $xml 'NotExported' $type $reason @('Reason')
        Write-Warning "$type is not exported: $($_.Exception.Message)"
        return
    }
    foreach ($object in $list) {
        if ($null -eq $object) { continue }
        Write-Object $xml $type (Get-Text $object.Name) $object $properties
    }
}

# Receive connectors, with a note on those that let anybody relay.
function Get-Receive {
    $anybody = (New-Object System.Security.Principal.SecurityIdentifier 'S-1-5-7').Translate([System.Security.Principal.NTAccount]).Value
    foreach ($connector in @(Get-ReceiveConnector -Server $server)) {
        $relay = $false
        foreach ($entry in @(Get-ADPermission -Identity $connector.DistinguishedName -User $anybody)) {
            foreach ($right in @($entry.ExtendedRights)) {
                if ((Get-Text $right) -eq 'ms-Exch-SMTP-Accept-Any-Recipient' -and -not $entry.Deny) { $relay = $true }
            }
        }
        $connector | Add-Member -MemberType NoteProperty -Name 'AnonymousRelay' -Value $relay -Force
        $connector
    }
}

# IMAP or POP3 settings, with a note on whether the service runs.
function Get-MailboxService($settings, [string]$service) {
    $running = @(Get-Service $service -ErrorAction SilentlyContinue | Where-Object { $_.Status -eq 'Running' }).Count -gt 0
    $settings | Add-Member -MemberType NoteProperty -Name 'Running' -Value $running -Force
    $settings
}

$configFile = Join-Path $OutputFolder 'SynologyExportedExchangeConf.xml'
$aliasFile = Join-Path $OutputFolder 'SynologyExportedAlias.txt'

$format = New-Object System.Xml.XmlWriterSettings
$format.Indent = $true
$format.Encoding = New-Object System.Text.UTF8Encoding $false
$xml = [System.Xml.XmlWriter]::Create($configFile, $format)
try {
    $xml.WriteStartElement('ExchangeExport')
    $xml.WriteAttributeString('version', '1')
    $xml.WriteAttributeString('server', $server)
    $xml.WriteAttributeString('exchange', (Get-Text $version))
    $xml.WriteAttributeString('created', (Get-Date).ToUniversalTime().ToString('yyyy-MM-ddTHH:mm:ssZ'))

    # General settings.
    Write-All $xml 'AcceptedDomain' { Get-AcceptedDomain } @('DomainName', 'DomainType', 'Default', 'MatchSubDomains')
    Write-All $xml 'TransportConfig' { Get-TransportConfig } @('MaxReceiveSize', 'MaxSendSize', 'MaxRecipientEnvelopeLimit', 'ExternalPostmasterAddress', 'InternalSMTPServers', 'TLSReceiveDomainSecureList', 'TLSSendDomainSecureList')
    Write-All $xml 'TransportService' {
        if (Get-Command 'Get-TransportService' -ErrorAction SilentlyContinue) { Get-TransportService $server } else { Get-TransportServer $server }
    } @('MessageExpirationTimeout', 'DelayNotificationTimeout', 'MaxOutboundConnections', 'MaxPerDomainOutboundConnections', 'OutboundConnectionFailureRetryInterval', 'ExternalDNSAdapterEnabled', 'ExternalDNSServers')
    Write-All $xml 'ReceiveConnector' { Get-Receive } @('Enabled', 'TransportRole', 'Bindings', 'RemoteIPRanges', 'AnonymousRelay', 'PermissionGroups', 'AuthMechanism', 'RequireTLS', 'Fqdn', 'Banner', 'MaxMessageSize', 'MaxRecipientsPerMessage', 'MaxHopCount', 'MaxHeaderSize', 'MaxInboundConnection', 'MaxInboundConnectionPerSource', 'MessageRateLimit')
    Write-All $xml 'SendConnector' { Get-SendConnector } @('Enabled', 'AddressSpaces', 'DNSRoutingEnabled', 'SmartHosts', 'SmartHostAuthMechanism', 'Port', 'RequireTLS', 'TlsAuthLevel', 'TlsDomain', 'Fqdn', 'MaxMessageSize')
    Write-All $xml 'ImapSettings' { Get-MailboxService (Get-ImapSettings -Server $server) 'MSExchangeImap4' } @('Running', 'UnencryptedOrTLSBindings', 'SSLBindings', 'LoginType', 'MaxConnections', 'MaxConnectionsFromSingleIP', 'MaxConnectionsPerUser')
    Write-All $xml 'PopSettings' { Get-MailboxService (Get-PopSettings -Server $server) 'MSExchangePop3' } @('Running', 'UnencryptedOrTLSBindings', 'SSLBindings', 'LoginType', 'MaxConnections', 'MaxConnectionsFromSingleIP', 'MaxConnectionsPerUser')

    # Conditions. Many of these cmdlets are there only where the anti-spam agents are installed.
    Write-All $xml 'IPAllowListEntry' { Get-IPAllowListEntry } @('IPRange', 'ExpirationTime', 'Comment')
    Write-All $xml 'IPBlockListEntry' { Get-IPBlockListEntry } @('IPRange', 'ExpirationTime', 'Comment')
    Write-All $xml 'IPAllowListProvider' { Get-IPAllowListProvider } @('Enabled', 'LookupDomain')
    Write-All $xml 'IPBlockListProvider' { Get-IPBlockListProvider } @('Enabled', 'LookupDomain', 'RejectionResponse')
    Write-All $xml 'SenderFilterConfig' { Get-SenderFilterConfig } @('Enabled', 'Action', 'BlankSenderBlockingEnabled', 'BlockedSenders', 'BlockedDomains', 'BlockedDomainsAndSubdomains')
    Write-All $xml 'RecipientFilterConfig' { Get-RecipientFilterConfig } @('Enabled', 'RecipientValidationEnabled', 'BlockListEnabled', 'BlockedRecipients')
    Write-All $xml 'ContentFilterConfig' { Get-ContentFilterConfig } @('Enabled', 'BypassedSenders', 'BypassedSenderDomains', 'BypassedRecipients', 'SCLRejectEnabled', 'SCLRejectThreshold', 'SCLDeleteEnabled', 'SCLDeleteThreshold', 'SCLQuarantineEnabled', 'SCLQuarantineThreshold')
    Write-All $xml 'ContentFilterPhrase' { Get-ContentFilterPhrase } @('Phrase', 'Influence')
    Write-All $xml 'SenderIdConfig' { Get-SenderIdConfig } @('Enabled', 'SpoofedDomainAction', 'BypassedSenderDomains')
    Write-All $xml 'SenderReputationConfig' { Get-SenderReputationConfig } @('Enabled', 'SrlBlockThreshold')
    Write-All $xml 'TransportRule' { Get-TransportRule } @('State', 'Description')
    Write-All $xml 'JournalRule' { Get-JournalRule } @('Enabled', 'Recipient', 'JournalEmailAddress', 'Scope')

    $xml.WriteEndElement()
} finally {
    $xml.Close()
}

# Aliases as a Postfix alias file. Further addresses of a mailbox lead to its account, distribution
# groups and contacts to their members and addresses.
function Get-Smtp($recipient) {
    foreach ($address in @($recipient.EmailAddresses)) {
        $text = Get-Text $address
        if ($text -match '^smtp:(.+)$') { $Matches[1] }
    }
}

function Get-Line([string]$name, [string[]]$members) {
    if ($members.Count -gt 0) { '{0}: {1}' -f $name, ($members -join ', ') }
}

$lines = New-Object System.Collections.Generic.List[string]
$lines.Add('# Aliases of Exchange server ' + $server + ', one line for each address.')
foreach ($mailbox in @(Get-Mailbox -ResultSize Unlimited)) {
    $primary = Get-Text $mailbox.PrimarySmtpAddress
    foreach ($address in @(Get-Smtp $mailbox)) {
        if ($address -ne $primary) { $lines.Add((Get-Line $address @($primary))) }
    }
}
foreach ($contact in @(Get-MailContact -ResultSize Unlimited) + @(Get-MailUser -ResultSize Unlimited)) {
    $target = (Get-Text $contact.ExternalEmailAddress) -replace '^smtp:', ''
    foreach ($address in @(Get-Smtp $contact)) {
        if ($target -and $address -ne $target) { $lines.Add((Get-Line $address @($target))) }
    }
}
foreach ($group in @(Get-DistributionGroup -ResultSize Unlimited)) {
    $members = @()
    foreach ($member in @(Get-DistributionGroupMember -Identity $group.DistinguishedName -ResultSize Unlimited)) {
        $address = Get-Text $member.PrimarySmtpAddress
        if (-not $address) { $address = (Get-Text $member.ExternalEmailAddress) -replace '^smtp:', '' }
        if ($address) { $members += $address }
    }
    foreach ($address in @(Get-Smtp $group)) {
        if ($members.Count -gt 0) { $lines.Add((Get-Line $address $members)) }
        else { $lines.Add('# ' + $address + ' has no members with an address') }
    }
}
[System.IO.File]::WriteAllLines($aliasFile, $lines.ToArray(), $format.Encoding)

Write-Host "Settings: $configFile"
Write-Host "Aliases:  $aliasFile"
