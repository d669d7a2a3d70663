// Package api declares every administrative operation, one file per noun. See package op for
// what follows from a declaration.
package api

import "mailplusd/admin/op"

// All is every operation, in the order in which help and reference list them.
var All = []op.Any{
	Version, Status, SetupShow, SetupNew, SetupFromMailServer, SetupFromExchange, ConfigShow, ConfigGet, ConfigSet, ConfigExport, ConfigImport, ConfigDiff,
	UserAdd, UserList, UserShow, UserSet, UserEnable, UserDisable, UserDelete, UserPasswd, UserForwardShow, UserForwardList, UserForwardSet, UserForwardDelete, UserReplyShow, UserReplyList, UserReplySet, UserReplyDelete, AppPermissionShow, AppPermissionSet,
	GroupAdd, GroupList, GroupShow, GroupSet, GroupDelete, GroupMemberAdd, GroupMemberDelete, GroupMemberList,
	PolicyAdd, PolicyList, PolicyShow, PolicySet, PolicyDelete, PolicyMove, PolicyTargetAdd, PolicyTargetDelete, PolicyTargetList, PolicyEffective,
	AccountListOp, AccountActivate, AccountDeactivate, AccountReset, AccountGroupList, AccountGroupActivate, AccountGroupDeactivate, AccountGroupReset,
	AccountDefaultShow, AccountDefaultSet, AccountSourceShow, AccountSourceSet, LDAPBind, LDAPShow, LDAPSet, LDAPUnbind, LDAPTest, LDAPSync, LicenseList, LicenseIssue, LicenseAdd,
	DomainAdd, DomainList, DomainShow, DomainSet, DomainDelete, DomainDNSRecords, DomainSTSShow, DomainSTSSet, DKIMShow, DKIMEnable, DKIMDisable, DKIMSet, DKIMGenerate,
	DomainUserAdd, DomainUserList, DomainUserShow, DomainUserSet, DomainUserDelete,
	AliasAdd, AliasList, AliasShow, AliasSet, AliasDelete, AliasImport, AliasExportOp,
	BCCAdd, BCCList, BCCSet, BCCDelete,
	ServiceShow, ServiceSMTPSet, ServiceSMTPSSet, ServiceSubmissionSet, ServiceIMAPShow, ServiceIMAPSet, ServicePOP3Show, ServicePOP3Set, ServiceAutoconfigShow, ServiceAutoconfigSet, ServiceInterfaceSet,
	ServiceFTSShow, ServiceFTSSet, FTSStatus, FTSReindex,
	NetInterfaceList, NetLANShow, NetLANSet, NetDNSShow, NetDNSSet,
	DeliveryGeneralShow, DeliveryGeneralSet, DeliveryAuthShow, DeliveryAuthSet, DeliveryForwardShow, DeliveryForwardSet,
	SenderPolicyShow, SenderPolicySet, ConnectionPolicyShow, ConnectionPolicySet, BlockList, BlockDelete,
	PostmasterShow, PostmasterEnable, PostmasterDisable, PostmasterAdd, PostmasterDelete,
	RelayShow, RelaySet, RelayRuleAdd, RelayRuleList, RelayRuleShow, RelayRuleSet, RelayRuleDelete,
	TrustedAdd, TrustedList, TrustedSet, TrustedDelete, RelayDomainAdd, RelayDomainList, RelayDomainSet, RelayDomainDelete,
	TLSPolicyList, TLSPolicyShow, TLSPolicySet, TLSPolicyDelete, TLSDefaultShow, TLSDefaultSet, TrustedCAAdd, TrustedCAList, TrustedCADelete, TLSReportList, TLSReportSend,
	QueueList, QueueShow, QueueResend, QueueHold, QueueRelease, QueueClear, QueueDelete, QueueStats,
	LogMailList, LogMailExport, LogFollow, AdminLogList,
	CertList, CertShow, CertImport, CertOrder, CertRenew, CertSet, CertDelete, CertACMEShow, CertACMESet,
	CheckAll, CheckDNS, CheckRDNS, CheckNetwork, CheckTime, CheckBlocklist, CheckPorts, CheckServices, CheckCerts, CheckConfig, CheckLogin, CheckRelayDomain,
	JobList, JobShow, JobWait, JobCancel,
	FlowShow, FlowTrace, MailboxList, MailboxShow, MailboxExpunged, MailboxRestore, MailboxExport, MailboxImport,
	StorageShow, StorageDigest, StorageVerify, StorageCompact, LockList, LockClear, TokenAdd, TokenList, TokenDelete,
	HAShow, HAPrecheck, HADiscover, HAInvite, HACreate, HASet, HASwitchover, HARemove, HARecover, HAWait,
	HAWitnessAdd, HAWitnessDel, HAWitnessShow, HAUpgrade, HAMergeList, HAMergeShow, ServerList, ServerShow,
	SessionAdd, MeShow, MePasswd, MeFactorShow, MeFactorEnable, MeFactorConfirm, MeFactorDisable, MeClientSettings, MeForwardShow, MeForwardSet, MeForwardDelete, MeReplyShow, MeReplySet, MeReplyDelete, MailSend, Complete,
}
