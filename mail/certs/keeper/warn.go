package keeper

import (
	"fmt"
	"strings"
	"time"

	"mailplusd/mail/model"
)

// Warning is what the administrator has to know about a certificate.
type Warning struct {
	Name   string // of the certificate
	Error  bool   // clients are refused already, or soon
	Text   string
	Remedy string // the command that helps
}

// Warnings says what is wrong with the certificates, as this node sees them.
func (k *Keeper) Warnings() ([]Warning, error) {
	all, err := All(k.State)
	if err != nil {
		return nil, err
	}
	return k.warnings(all), nil
}

func (k *Keeper) warnings(all []Entry) (out []Warning) {
	now := k.Now()
	soon := now.AddDate(0, 0, k.State.Current().Certs.WarnDays)
	for i := range all {
		e := &all[i]
		add := func(bad bool, remedy, format string, args ...any) {
			out = append(out, Warning{e.Name, bad, fmt.Sprintf(format, args...), remedy})
		}
		renew := "mpctl cert renew " + e.Name
		if e.Source == model.CertImported {
			renew = "mpctl cert import " + e.Name + " --cert FILE --key-file FILE"
		}
		if is := e.Issued; is != nil && is.Failures > 0 {
			add(e.Chain == "", renew, "was not issued, %d times: %s; it is tried again %s", is.Failures, is.Error, time.Unix(is.Next, 0).Format(time.RFC3339))
		}
		if e.Chain == "" {
			continue
		}
		if err := k.Readable(e); err != nil {
			add(true, renew, "can't be used on this node: %v", err)
			continue
		}
		left := e.Info.NotAfter.Sub(now)
		switch {
		case left < 0:
			add(true, renew, "expired %s", e.Info.NotAfter.Format(time.RFC3339))
		case e.Info.NotBefore.After(now):
			add(true, "mpctl check time", "is good from %s on only", e.Info.NotBefore.Format(time.RFC3339))
		case e.Info.NotAfter.Before(soon) && !renewsInTime(e, now):
			add(false, renew, "expires in %d days, %s", int(left.Hours()/24), e.Info.NotAfter.Format(time.RFC3339))
		}
	}
	return out
}

// renewsInTime: one that is renewed by itself is no reason to worry before its renewal is late.
func renewsInTime(e *Entry, now time.Time) bool {
	return e.Source == model.CertACME && (e.Issued == nil || e.Issued.Failures == 0) && now.Before(RenewAt(e.Info).Add(time.Hour))
}

// tellAgain is how often the log repeats a warning.
const tellAgain = 24 * time.Hour

// tell logs warnings, each once a day. Only Run calls it.
func (k *Keeper) tell(list []Warning) {
	now := k.Now()
	told := map[string]time.Time{}
	for _, w := range list {
		kind, _, _ := strings.Cut(w.Text, " ")
		key := w.Name + " " + kind
		if last, ok := k.told[key]; ok && now.Sub(last) < tellAgain {
			told[key] = last
			continue
		}
		told[key] = now
		k.Log.Warn("certificate", "certificate", w.Name, "problem", w.Text, "remedy", w.Remedy)
	}
	k.told = told
}
