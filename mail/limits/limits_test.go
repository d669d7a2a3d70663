package limits_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/directory"
	"mailplusd/mail/limits"
	"mailplusd/mail/model"

	"pgregory.net/rapid"
)

// world is a system with two domains and an account whose main address is in the first one.
func world(sizeMB int, pol *model.Policy, one, two model.DomainLimits) (*directory.Picture, *model.Settings, *directory.Account) {
	set := model.DefaultSettings()
	set.Delivery.MaxSizeMB = sizeMB
	a := &directory.Account{Policy: pol, Addresses: []string{"anna@one.test", "anna@two.test"}}
	d1, d2 := &model.Domain{Name: "one.test", Limits: one}, &model.Domain{Name: "two.test", Limits: two}
	return &directory.Picture{Domains: map[string]*model.Domain{"one.test": d1, "two.test": d2, "also-two.test": d2}}, &set, a
}

func policy(change func(*model.Policy)) *model.Policy {
	p := model.DefaultPolicy()
	p.Name = "strict"
	if change != nil {
		change(p)
	}
	return p
}

func TestOf(t *testing.T) {
	// covers: R5.60 R5.61 R5.62 R5.65 R5.66 R5.68 R5.69 R5.70 R5.73 R5.74 R5.76 R5.77 R5.78 R5.79 R8.80 R8.81 R8.82 R8.85 R8.87 I.36
	one := model.DomainLimits{MessageMB: 8, AttachmentMB: "4", DailyCount: "100", DailyMB: "50"}
	two := model.DomainLimits{DailyCount: "0"}
	const sys = 10
	for _, c := range []struct {
		name   string
		pol    func(*model.Policy)
		domain string
		want   string // message, attachment, messages, traffic; by whom
	}{
		{"everything is the domain's", nil, "one.test", "8 domain one.test | 4 domain one.test | 100 domain one.test | 50 domain one.test"},
		{"another domain, which says little", nil, "two.test", "10 system | 10 system | 0 domain two.test | 0 domain two.test"},
		{"an additional name of it", nil, "also-two.test", "10 system | 10 system | 0 domain two.test | 0 domain two.test"},
		{"not hosted: the main address stands in", nil, "elsewhere.test", "8 domain one.test | 4 domain one.test | 100 domain one.test | 50 domain one.test"},
		{"no sender at all", nil, "", "8 domain one.test | 4 domain one.test | 100 domain one.test | 50 domain one.test"},
		{"the policy says numbers", func(p *model.Policy) { p.DailyCount, p.DailyMB, p.AttachmentMB = "7", "6", "5" }, "one.test", "8 domain one.test | 5 policy strict | 7 policy strict | 6 policy strict"},
		{"the policy frees", func(p *model.Policy) { p.DailyCount, p.DailyMB, p.AttachmentMB = "off", "0", "off" }, "one.test", "8 domain one.test | 0 policy strict | 0 policy strict | 0 policy strict"},
		{"the system's limit is smaller than the policy's", func(p *model.Policy) { p.AttachmentMB = "11" }, "one.test", "8 domain one.test | 10 system | 100 domain one.test | 50 domain one.test"},
		{"one item only", func(p *model.Policy) { p.DailyMB = "6" }, "one.test", "8 domain one.test | 4 domain one.test | 100 domain one.test | 6 policy strict"},
	} {
		p, set, a := world(sys, policy(c.pol), one, two)
		if got := shown(limits.Of(p, set, a, c.domain)); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", c.name, got, c.want)
		}
	}
	p, set, a := world(sys, policy(nil), one, two)
	a.Addresses = a.Addresses[:1]
	if got := shown(limits.Of(p, set, a, "two.test")); got != "8 domain one.test | 4 domain one.test | 100 domain one.test | 50 domain one.test" {
		t.Errorf("an address in a domain where the user has none frees him from his limits: %s", got)
	}
	p, set, _ = world(sys, nil, model.DomainLimits{MessageMB: 12, AttachmentMB: "12"}, two)
	if got := shown(limits.Of(p, set, nil, "one.test")); got != "10 system | 10 system | 0 domain one.test | 0 domain one.test" {
		t.Errorf("nobody has logged in, and the system allows less than the domain: %s", got)
	}
	if got := shown(limits.Of(p, set, nil, "elsewhere.test")); got != "10 system | 10 system | 0 system | 0 system" {
		t.Errorf("nobody from nowhere: %s", got)
	}
}

func shown(l limits.Limits) string {
	mb := func(v limits.Value) string { return fmt.Sprint(v.N/model.MB, " ", v.By) }
	return strings.Join([]string{mb(l.Message), mb(l.Attachment), fmt.Sprint(l.Messages.N, " ", l.Messages.By), mb(l.Traffic)}, " | ")
}

// TestNoAuthentication: without SMTP authentication nothing is limited a day.
func TestNoAuthentication(t *testing.T) {
	// covers: R5.67 R5.75 R7.28
	p, set, a := world(10, policy(func(p *model.Policy) { p.DailyCount, p.AttachmentMB = "7", "3" }), model.DomainLimits{DailyMB: "1"}, model.DomainLimits{})
	set.Delivery.AuthEnabled = false
	if l := limits.Of(p, set, a, "one.test"); l.Messages.N != 0 || l.Traffic.N != 0 || l.Attachment.N != 3*model.MB {
		t.Errorf("%+v", l)
	}
}

func TestIncoming(t *testing.T) {
	// covers: R5.80 R8.82
	p, set, _ := world(10, nil, model.DomainLimits{AttachmentMB: "4"}, model.DomainLimits{AttachmentMB: "6"})
	for _, c := range []struct {
		domains string
		want    string
	}{{"one.test", "4 domain one.test"}, {"two.test one.test", "4 domain one.test"}, {"ALSO-two.test", "6 domain two.test"}, {"elsewhere.test", "10 system"}, {"", "10 system"}} {
		v := limits.Incoming(p, set, strings.Fields(c.domains))
		if got := fmt.Sprint(v.N/model.MB, " ", v.By); got != c.want {
			t.Errorf("%q: %s, want %s", c.domains, got, c.want)
		}
	}
}

func TestForward(t *testing.T) {
	// covers: R5.56 R5.57 R5.58 R8.83
	for _, c := range []struct {
		policy   string
		disabled bool
		may      bool
		by       string
	}{
		{"on", false, false, "policy strict"}, {"on", true, false, "policy strict"}, {"off", false, true, "policy strict"}, {"off", true, true, "policy strict"},
		{"inherit", false, true, "domain one.test"}, {"inherit", true, false, "domain one.test"}, {"", true, false, "domain one.test"},
	} {
		p, _, a := world(10, policy(func(p *model.Policy) { p.DisableAutoForward = c.policy }), model.DomainLimits{DisableAutoForward: c.disabled}, model.DomainLimits{DisableAutoForward: !c.disabled})
		if may, by := limits.Forward(p, a); may != c.may || by.String() != c.by {
			t.Errorf("policy %q, domain %v: %v by %s, want %v by %s", c.policy, c.disabled, may, by, c.may, c.by)
		}
		if a.Addresses = nil; c.by != "policy strict" {
			if may, by := limits.Forward(p, a); !may || by.Kind != limits.System {
				t.Errorf("without an address: %v by %s", may, by)
			}
		}
	}
}

// TestDaily: the limit is what is still sent, and who is refused hears until when.
func TestDaily(t *testing.T) {
	// covers: I.35 R8.85 R8.87
	zone := time.FixedZone("", 3600)
	now := time.Date(2026, 1, 31, 22, 30, 0, 0, zone)
	today := model.DayOf(now)
	count := limits.Value{N: 3}
	traffic := limits.Value{N: 2 * model.MB}
	for _, c := range []struct {
		name   string
		l      limits.Limits
		u      model.Usage
		octets int64
		want   string // of the refusal; empty: there is none
	}{
		{"no limits", limits.Limits{}, model.Usage{Day: today, Messages: 1e6, Octets: 1e12}, 1e9, ""},
		{"the last one", limits.Limits{Messages: count}, model.Usage{Day: today, Messages: 2}, 1, ""},
		{"one too many", limits.Limits{Messages: count}, model.Usage{Day: today, Messages: 3}, 1, "452 Daily limit of 3 messages is reached; it starts anew at 2026-02-01 00:00 +0100"},
		{"those of yesterday", limits.Limits{Messages: count}, model.Usage{Day: today - 1, Messages: 3}, 1, ""},
		{"the other node has a later clock", limits.Limits{Messages: count}, model.Usage{Day: today + 1, Messages: 3}, 1, "452 Daily limit of 3 messages is reached; it starts anew at 2026-02-02 00:00 +0100"},
		{"it fits exactly", limits.Limits{Traffic: traffic}, model.Usage{Day: today, Octets: model.MB}, model.MB, ""},
		{"an octet too many", limits.Limits{Traffic: traffic}, model.Usage{Day: today, Octets: model.MB}, model.MB + 1, "452 Daily limit of 2 MB has 1 MB left, and the message has 1.00 MB; it starts anew at 2026-02-01 00:00 +0100"},
		{"nothing is left", limits.Limits{Traffic: traffic}, model.Usage{Day: today, Octets: 2 * model.MB}, 1, "452 Daily limit of 2 MB is reached; it starts anew at 2026-02-01 00:00 +0100"},
		{"no day is long enough", limits.Limits{Traffic: traffic}, model.Usage{}, 3 * model.MB, "552 The message has 3 MB, and you may send 2 MB a day"},
		{"both", limits.Limits{Messages: count, Traffic: traffic}, model.Usage{Day: today, Messages: 3, Octets: 2 * model.MB}, 1, "452 Daily limit of 3 messages is reached; it starts anew at 2026-02-01 00:00 +0100"},
	} {
		full := c.l.Full(c.u, c.octets, now)
		got := ""
		if full {
			code, text := c.l.Refusal(c.u, c.octets, now)
			got = fmt.Sprint(code, " ", text)
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestOfModel holds the resolver against the rule said in another way: of policy, domain and system
// the first that says something counts, and no size is above the system's.
func TestOfModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		word := func(name string, inherit bool) model.Limit {
			words := []model.Limit{"off", "0", "1", "5", "30"}
			if inherit {
				words = append(words, "inherit")
			}
			return rapid.SampledFrom(append(words, "")).Draw(r, name)
		}
		dom := func(name string) model.DomainLimits {
			return model.DomainLimits{
				MessageMB: rapid.SampledFrom([]int{0, 1, 30}).Draw(r, name+" message"), AttachmentMB: word(name+" attachment", false),
				DailyCount: word(name+" count", false), DailyMB: word(name+" mb", false),
			}
		}
		one, two := dom("one"), dom("two")
		pol := policy(func(p *model.Policy) {
			p.DailyCount, p.DailyMB, p.AttachmentMB = word("count", true), word("mb", true), word("attachment", true)
		})
		p, set, a := world(10, pol, one, two)
		from := rapid.SampledFrom([]string{"one.test", "two.test", "also-two.test", "x.test", ""}).Draw(r, "from")
		d := one
		if strings.HasSuffix(from, "two.test") {
			d = two
		}
		say := func(list ...model.Limit) int64 { // 0: none
			for _, l := range list {
				if l != "" && l != "inherit" {
					n, _ := l.Value()
					return n
				}
			}
			return 0
		}
		l := limits.Of(p, set, a, from)
		if want := say(pol.DailyCount, d.DailyCount); l.Messages.N != want {
			r.Fatalf("messages a day: %d, want %d", l.Messages.N, want)
		}
		if want := say(pol.DailyMB, d.DailyMB) * model.MB; l.Traffic.N != want {
			r.Fatalf("traffic: %d, want %d", l.Traffic.N, want)
		}
		message := int64(10)
		if d.MessageMB == 1 {
			message = 1
		}
		if l.Message.N != message*model.MB {
			r.Fatalf("message: %d, want %d MB", l.Message.N, message)
		}
		attachment := say(pol.AttachmentMB, d.AttachmentMB)
		if free := pol.AttachmentMB == "off" || pol.AttachmentMB == "0"; !free && (attachment == 0 || attachment > 10) {
			attachment = 10
		}
		if l.Attachment.N != attachment*model.MB {
			r.Fatalf("attachment: %d, want %d MB", l.Attachment.N, attachment)
		}
	})
}
