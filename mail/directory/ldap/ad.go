package ldap

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"mailplusd/mail/model"

	goldap "github.com/go-ldap/ldap/v3"
)

// What Active Directory has besides an LDAP directory (MS-ADTS): an identity that outlives the name, the
// state of an account in numbers, and the primary group outside of the lists of members.

// adAttrs are what is read of a user besides his names.
var adAttrs = []string{"objectGUID", "objectSid", "userAccountControl", "accountExpires", "primaryGroupID", "userPrincipalName"}

// Bits of userAccountControl and msDS-User-Account-Control-Computed (MS-ADTS §2.2.16, §3.1.1.4.5.17).
const (
	uacDisabled        = 0x2
	uacLocked          = 0x10
	uacPasswordExpired = 0x800000
)

// guidOf gives an objectGUID in hexadecimal, in the order of its octets; empty when it is none.
func guidOf(x *goldap.Entry) string {
	raw := x.GetEqualFoldRawAttributeValue("objectGUID")
	if len(raw) != 16 {
		return ""
	}
	return hex.EncodeToString(raw)
}

// guidFilter finds the object with a GUID, wherever it is and whatever its name; one that is no GUID finds nothing.
func guidFilter(guid string) string {
	raw, err := hex.DecodeString(guid)
	if err != nil || len(raw) != 16 {
		return "(!(objectClass=*))"
	}
	return "(objectGUID=" + goldap.EscapeFilter(string(raw)) + ")"
}

// rid is the SID of a group of the same domain (MS-DTYP §2.4.2): the domain's part, and the number in it.
type rid struct {
	domain string
	number uint32
}

func ridOf(x *goldap.Entry) (rid, bool) {
	raw := x.GetEqualFoldRawAttributeValue("objectSid")
	if len(raw) < 12 || len(raw) > 68 || len(raw) != 8+4*int(raw[1]) {
		return rid{}, false
	}
	return rid{string(raw[:len(raw)-4]), binary.LittleEndian.Uint32(raw[len(raw)-4:])}, true
}

// ad fills in what a user of Active Directory has besides.
func (u *User) ad(x *goldap.Entry, now time.Time) {
	u.GUID = guidOf(x)
	if upn, ok := cleanName(x.GetEqualFoldAttributeValue("userPrincipalName")); ok && strings.Contains(upn, "@") {
		u.UPN = upn
	}
	u.Disabled = flags(x, "userAccountControl")&uacDisabled != 0 || expired(x, now)
	if r, ok := ridOf(x); ok {
		if n, err := strconv.ParseUint(x.GetEqualFoldAttributeValue("primaryGroupID"), 10, 32); err == nil {
			u.primary = rid{r.domain, uint32(n)}
		}
	}
}

// flags reads a number of bits; values are signed in the directory.
func flags(x *goldap.Entry, attr string) uint32 {
	n, _ := strconv.ParseInt(x.GetEqualFoldAttributeValue(attr), 10, 64)
	return uint32(n)
}

// fileTime reads a time in units of 100 ns since 1601 (MS-DTYP §2.3.3); zero when there is none.
func fileTime(x *goldap.Entry, attr string) time.Time {
	n, err := strconv.ParseInt(x.GetEqualFoldAttributeValue(attr), 10, 64)
	const unix = 116444736000000000 // 1970
	if err != nil || n <= 0 || n == 1<<63-1 {
		return time.Time{}
	}
	return time.Unix((n-unix)/1e7, (n-unix)%1e7*100)
}

// expired tells whether accountExpires is over (MS-ADTS: 0 and 2^63-1 mean never).
func expired(x *goldap.Entry, now time.Time) bool {
	t := fileTime(x, "accountExpires")
	return !t.IsZero() && !t.After(now)
}

// adReasons are the codes that Active Directory adds to a refused bind (Win32 error codes, MS-ERREF §2.2).
var adReasons = map[uint64]string{
	0x525: "there is no such user", 0x52e: "the password is wrong", 0x530: "he may not log in at this time", 0x531: "he may log in at certain workstations only",
	0x532: "the password has expired", 0x533: "the account is disabled", 0x569: "he may not log in this way", 0x701: "the account has expired",
	0x773: "the password must be changed first", 0x775: "the account is locked after too many wrong passwords",
}

var adCode = regexp.MustCompile(`\bdata ([0-9a-fA-F]{1,8})\b`)

// reason says why a bind was refused, as far as the directory tells.
func reason(err error) string {
	var e *goldap.Error
	if !errors.As(err, &e) || e.Err == nil {
		return ""
	}
	m := adCode.FindStringSubmatch(e.Err.Error())
	if m == nil {
		return ""
	}
	n, _ := strconv.ParseUint(m[1], 16, 32)
	return adReasons[n]
}

// checkAD finds the user by his GUID, so that neither a new name nor a new place locks him out, and nobody
// who has got his old name comes in for him; then it tries the password.
func (c *Client) checkAD(ctx context.Context, who Who, password []byte) (v Verdict, err error) {
	s, err := c.connect(ctx, maxLogin, true)
	if err != nil {
		return v, err
	}
	defer s.close()
	dn, err := s.one(c.search(c.conf.BaseDN, "(&"+guidFilter(who.GUID)+c.conf.UserFilter+")", "1.1"))
	if err != nil {
		return v, err
	}
	v, err = s.try(cmp.Or(dn, who.DN), password)
	if dn == "" {
		v = Verdict{Why: "there is no such user any more"} // asked all the same: the answer takes as long
	}
	return v, err
}

// State tells what keeps a user of Active Directory from logging in with the right password.
func (c *Client) State(ctx context.Context, who Who) ([]string, error) {
	s, err := c.connect(ctx, maxLogin, true)
	if err != nil {
		return nil, err
	}
	defer s.close()
	s.extend()
	req := c.search(c.conf.BaseDN, guidFilter(who.GUID), "userAccountControl", "msDS-User-Account-Control-Computed", "accountExpires", "pwdLastSet")
	req.SizeLimit = 2
	res, err := s.Search(req)
	if err != nil {
		return nil, unavailable("%s: %w", s.uri, err)
	}
	if len(res.Entries) != 1 {
		return []string{"there is no such user any more"}, nil
	}
	x := res.Entries[0]
	computed := flags(x, "msDS-User-Account-Control-Computed")
	var out []string
	for _, is := range []struct {
		so   bool
		text string
	}{
		{flags(x, "userAccountControl")&uacDisabled != 0, "the account is disabled"},
		{expired(x, time.Now()), "the account has expired"},
		{computed&uacLocked != 0, "the account is locked after too many wrong passwords"},
		{x.GetEqualFoldAttributeValue("pwdLastSet") == "0", "the password must be changed first"},
		{computed&uacPasswordExpired != 0 && x.GetEqualFoldAttributeValue("pwdLastSet") != "0", "the password has expired"},
	} {
		if is.so {
			out = append(out, is.text)
		}
	}
	return out, nil
}

// Short asks for the NetBIOS name of the domain (MS-ADTS §6.1.1.2.1.1.1.1); empty when it can't be read.
func (c *Client) Short(ctx context.Context) (string, error) {
	s, err := c.connect(ctx, maxLogin, true)
	if err != nil {
		return "", err
	}
	defer s.close()
	req := c.search("CN=Partitions,CN=Configuration,"+c.conf.RootDN(), "(&(objectClass=crossRef)(nCName="+goldap.EscapeFilter(c.conf.RootDN())+"))", "nETBIOSName")
	req.SizeLimit = 2
	s.extend()
	res, err := s.Search(req)
	if err != nil || len(res.Entries) != 1 { // of a child domain the partitions are elsewhere
		return "", nil
	}
	name := model.FoldName(res.Entries[0].GetEqualFoldAttributeValue("nETBIOSName"))
	if model.ValidateUserName(name) != nil {
		return "", nil
	}
	return name, nil
}
