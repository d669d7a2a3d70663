package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/exchange"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// Sections of the review.
const (
	exchangeSetUp      = "set-up"
	exchangeGeneral    = "general"
	exchangeConditions = "conditions"
)

// exchangePlan works out what becomes of each setting of an export, and does it in a transaction.
// What this system can't hold, or refuses, is a row of its own and stops nothing else.
type exchangePlan struct {
	tx        *state.Tx
	set       *model.Settings // changed in place
	now       time.Time
	file      *exchange.Export
	resolvers bool // are given otherwise

	rows []api.ExchangeRow
	diff []op.FieldDiff // of what is no setting
	used map[*exchange.Object]map[string]bool
}

func (p *exchangePlan) run() error {
	p.used = map[*exchange.Object]map[string]bool{}
	for _, step := range []func() error{p.domains, p.transport, p.receive, p.mailboxServices, p.send, p.trusted} {
		if err := step(); err != nil {
			return err
		}
	}
	p.rest()
	slices.SortStableFunc(p.rows, func(a, b api.ExchangeRow) int { return sectionOrder(a) - sectionOrder(b) })
	return nil
}

func sectionOrder(r api.ExchangeRow) int {
	n := 0
	if r.Section == exchangeConditions {
		n = 1
	}
	if r.Result == api.ExchangeLeft {
		n += 2
	}
	return n
}

// use says that a row speaks of a property, and gives its values.
func (p *exchangePlan) use(o *exchange.Object, names ...string) (values []string) {
	if p.used[o] == nil {
		p.used[o] = map[string]bool{}
	}
	for _, name := range names {
		p.used[o][name] = true
		values = append(values, o.Values(name)...)
	}
	return values
}

func exchangeFrom(o *exchange.Object, names ...string) string {
	from := o.Type
	if o.Name != "" {
		from += " " + o.Name
	}
	if len(names) > 0 {
		from += ": " + strings.Join(names, ", ")
	}
	return from
}

// source is where a row comes from.
type source struct {
	section string
	object  *exchange.Object
	names   []string
	note    string
}

func (p *exchangePlan) add(src source, result, setting, old, value, note string) {
	row := api.ExchangeRow{Section: src.section, Result: result, Setting: setting, Old: old, New: value,
		From: exchangeFrom(src.object, src.names...), Values: p.use(src.object, src.names...), Note: note}
	if len(src.names) > 1 {
		row.From, row.Values = exchangeFrom(src.object), nil
		for _, name := range src.names {
			if v := src.object.Values(name); len(v) > 0 {
				row.Values = append(row.Values, name+": "+strings.Join(v, ", "))
			}
		}
	}
	p.rows = append(p.rows, row)
}

// left is a setting that is not taken over.
func (p *exchangePlan) left(src source, setting, why string, args ...any) {
	p.add(src, api.ExchangeLeft, setting, "", "", fmt.Sprintf(why, args...))
}

// put sets settings that belong together: KEY, VALUE, …; what the rules refuse is left.
func (p *exchangePlan) put(src source, kv ...string) {
	try := *p.set
	var err error
	for i := 0; i+1 < len(kv) && err == nil; i += 2 {
		err = try.Set(kv[i], kv[i+1])
	}
	if err == nil {
		err = try.Validate()
	}
	if err != nil {
		p.left(src, kv[0], "%s", why(err))
		return
	}
	for i := 0; i+1 < len(kv); i += 2 {
		old, _ := p.set.Get(kv[i])
		value, _ := try.Get(kv[i])
		if old != value {
			p.add(src, api.ExchangeSet, kv[i], old, value, src.note)
		} else if i == 0 {
			p.add(src, api.ExchangeSame, kv[i], old, value, src.note)
		}
	}
	*p.set = try
}

// row stores a row of a table; one that is there already is left as it is.
func (p *exchangePlan) row(src source, what, name string, store func() error) error {
	err := p.tx.Sub(store)
	var refusal *op.Error
	switch {
	case err == nil:
		p.diff = append(p.diff, op.FieldDiff{Field: what, New: name})
		p.add(src, api.ExchangeSet, what, "", name, src.note)
	case errors.Is(err, errExchangeSame):
		p.add(src, api.ExchangeSame, what, name, name, "")
	case errors.As(err, &refusal) || errors.As(err, new(*model.FieldError)):
		if explain(err).Code == op.Exists {
			p.add(src, api.ExchangeSame, what, name, name, "")
			return nil
		}
		p.left(src, what, "%s", why(err))
	default:
		return err
	}
	return nil
}

// why says what was wrong, and what would help.
func why(err error) string {
	e := explain(err)
	if e.Remedy != "" {
		return e.Error() + "; " + e.Remedy
	}
	return e.Error()
}

// errExchangeSame says that a row is there already, just so.
var errExchangeSame = errors.New("is there already")

// limit sets a limit that Exchange writes as a number or as Unlimited.
func (p *exchangePlan) limit(o *exchange.Object, name, key string, before ...string) {
	v := o.Value(name)
	src := source{section: exchangeGeneral, object: o, names: []string{name}}
	switch {
	case v == "":
	case exchange.Unlimited(v):
		k, _ := model.FindSetting(key)
		have, _ := p.set.Get(key)
		p.left(src, key, "it is unlimited there; here it is at most %d, and stays %s", k.Max, have)
	default:
		p.put(src, append(before, key, v)...)
	}
}

// span sets a time in units of per.
func (p *exchangePlan) span(o *exchange.Object, name, key string, per time.Duration) {
	v := o.Value(name)
	if v == "" {
		return
	}
	src := source{section: exchangeGeneral, object: o, names: []string{name}}
	d, err := exchange.Duration(v)
	if err != nil {
		p.left(src, key, "%v", err)
		return
	}
	p.put(src, key, fmt.Sprint(int64((d+per-1)/per)))
}

// size sets a size in units of per octets.
func (p *exchangePlan) size(o *exchange.Object, name, key string, per int64) {
	v := o.Value(name)
	if v == "" || exchange.Unlimited(v) {
		p.limit(o, name, key)
		return
	}
	src := source{section: exchangeGeneral, object: o, names: []string{name}}
	n, err := exchange.Octets(v)
	if err != nil {
		p.left(src, key, "%v", err)
		return
	}
	p.put(src, key, fmt.Sprint(n/per+min(1, n%per)))
}

// exchangeTypes say why objects of a type are not taken over. Those of a list share one row.
var exchangeTypes = map[string]struct {
	list bool
	why  string
}{
	"IPBlockListEntry":       {true, "this version keeps no black list of clients"},
	"IPAllowListEntry":       {true, "this version keeps no white list; it has no content scan that one would skip"},
	"IPBlockListProvider":    {true, "this version refuses nothing by DNS block lists"},
	"IPAllowListProvider":    {true, "this version keeps no white list"},
	"SenderFilterConfig":     {false, "this version keeps no black list of senders"},
	"RecipientFilterConfig":  {false, "this version keeps no black list of recipients; unknown recipients are always refused"},
	"ContentFilterConfig":    {false, "this version does not scan content"},
	"ContentFilterPhrase":    {true, "this version does not scan content"},
	"SenderIdConfig":         {false, "this version does not check where a sender's mail may come from"},
	"SenderReputationConfig": {false, "this version rates no senders"},
	"TransportRule":          {true, "this version has no rules on content"},
	"JournalRule":            {true, "blind copies are made by mpctl domain autobcc add"},
}

// rest names what no step has spoken of.
func (p *exchangePlan) rest() {
	lists := map[string]int{} // place of the row of a list
	for _, o := range p.file.Objects {
		t, known := exchangeTypes[o.Type]
		section := exchangeGeneral
		if known {
			section = exchangeConditions
		}
		if o.Type == exchange.NotExported {
			if _, known = exchangeTypes[o.Name]; known {
				section = exchangeConditions
			}
			p.rows = append(p.rows, api.ExchangeRow{Section: section, Result: api.ExchangeLeft, From: o.Name, Values: o.Values("Reason"), Note: "Exchange did not give it out"})
			continue
		}
		var values []string
		for _, prop := range o.Properties {
			if !p.used[o][prop.Name] && len(prop.Values) > 0 {
				values = append(values, prop.Name+": "+strings.Join(prop.Values, ", "))
			}
		}
		if len(values) == 0 {
			continue
		}
		row := api.ExchangeRow{Section: section, Result: api.ExchangeLeft, From: exchangeFrom(o), Values: values, Note: t.why}
		if !known {
			row.Note = "nothing here corresponds to it"
		}
		if !t.list {
			p.rows = append(p.rows, row)
			continue
		}
		row.From, row.Values = o.Type, []string{listEntry(o)}
		if i, ok := lists[o.Type]; ok {
			p.rows[i].Values = append(p.rows[i].Values, row.Values[0])
			continue
		}
		lists[o.Type] = len(p.rows)
		p.rows = append(p.rows, row)
	}
}

// listEntry writes an object of a list in one line.
func listEntry(o *exchange.Object) string {
	head, more := o.Name, []string{}
	for i, prop := range o.Properties {
		v := strings.Join(prop.Values, ", ")
		if i == 0 && (prop.Name == "IPRange" || prop.Name == "LookupDomain" || prop.Name == "Phrase") {
			head = v
		} else if v != "" {
			more = append(more, prop.Name+" "+v)
		}
	}
	if len(more) > 0 {
		head += " (" + strings.Join(more, "; ") + ")"
	}
	return head
}
