// Package op declares administrative operations once. From a declaration come the
// route of the daemon, the command of mpctl with its flags and completion, validation on
// both ends, the permission, the columns of tables, the admin log and the reference page.
//
// A new noun takes three steps:
//
//  1. admin/api/noun.go: structs for input and output with tags, and one op.New per verb.
//  2. admin/server/noun.go: a function per operation, bound in bindings.go.
//  3. one line in api.All for each operation.
//
// Tags of input fields: `arg:"1"` is the first word, `arg:"2..."` all words from the second on;
// `flag:"max-size"` a flag; `secret:"password"` a value that comes from --password-file or a
// prompt, never from a flag; `file:"file"` the content of a file, which a flag of that name or,
// with `arg`, a word names. `help`, `unit`, `min`, `max`,
// `enum`, `default`, `complete`, `optional` and `required` say more. A pointer means: only when given.
// Tags of output fields: `col:"NAME"`, or `col:"NAME,wide"` for the wide table only.
package op

import (
	"fmt"
	"reflect"
	"strings"
)

// Effect is what an operation does to the system.
type Effect uint8

// The effects. Everything but Read is written to the admin log.
const (
	Read Effect = iota
	Create
	Update
	Delete
	Run
)

var effectNames = [...]string{"read", "create", "update", "delete", "run"}

func (e Effect) String() string { return effectNames[e] }

// Role is who may call an operation.
type Role uint8

// The roles. Anyone needs no login: version and set-up state.
const (
	RoleAdmin Role = iota
	RoleUser       // any account, about itself
	RoleAnyone
)

var roleNames = [...]string{"administrator", "user", "anyone"}

func (r Role) String() string { return roleNames[r] }

// Confirm is what an operation asks before it acts.
type Confirm uint8

// Confirmations: none, --yes, --confirm=NAME for what can't be undone, or --yes when it is for --all.
const (
	ConfirmNone Confirm = iota
	ConfirmYes
	ConfirmName
	ConfirmAll
)

// Spec is what a declaration says besides its types.
type Spec struct {
	Summary  string
	Help     string // more, in sentences
	Examples []string
	Role     Role
	Effect   Effect
	Confirm  Confirm
	Stream   bool // rows come one by one until the caller stops
	Job      bool // takes long: the answer is a job, bound with BindJob
	Upload   bool // messages go up with it (admin/feed), bound with bindUpload
	Bulk     bool // also takes rows with --file; the handler is bound with BindBulk
	Early    bool // allowed before set-up (I.87)
	Local    bool // answered by the node that is asked, never forwarded to the leader
	Review   bool // what a dry run answers is shown before anything is confirmed
	Alone    bool // changes no setting: allowed on a secondary that serves alone (R11.61)
}

// CodeHeader carries the one-time code of a login with two factors.
const CodeHeader = "X-One-Time-Code"

// FieldCode is Error.Field when a login needs a one-time code.
const FieldCode = "code"

// None is the input or output of an operation that has none.
type None struct{}

// Secret is a value that is never shown, logged or given in a flag.
type Secret string

// String hides the value.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "********"
}

// Validator is implemented by inputs with rules of their own; it runs in mpctl and in the daemon.
type Validator interface{ Validate() error }

// Any is an operation without its types.
type Any interface {
	Name() string
	Spec() *Spec
	In() reflect.Type
	Out() reflect.Type
}

// Op is a declared operation.
type Op[In, Out any] struct {
	name string
	spec Spec
}

// New declares an operation. name is its words: noun, perhaps a second noun, verb.
func New[In, Out any](name string, spec Spec) *Op[In, Out] { return &Op[In, Out]{name, spec} }

// Name gives the words of the operation, such as "domain alias add".
func (o *Op[In, Out]) Name() string { return o.name }

// Spec gives what the declaration says.
func (o *Op[In, Out]) Spec() *Spec { return &o.spec }

// In is the input's type.
func (o *Op[In, Out]) In() reflect.Type { return reflect.TypeFor[In]() }

// Out is the output's type.
func (o *Op[In, Out]) Out() reflect.Type { return reflect.TypeFor[Out]() }

// Path is the operation's route.
func Path(o Any) string { return "/v1/" + strings.ReplaceAll(o.Name(), " ", "/") }

// BulkPath is the route that takes many rows.
func BulkPath(o Any) string { return Path(o) + ":bulk" }

// UploadPath is the route that takes messages.
func UploadPath(o Any) string { return Path(o) + ":upload" }

// Check validates an input against its tags and its own rules.
func Check(in any) error {
	v := reflect.Indirect(reflect.ValueOf(in))
	for _, f := range Fields(v.Type()) {
		if err := f.check(v.FieldByIndex(f.Index)); err != nil {
			return err
		}
	}
	if val, ok := in.(Validator); ok {
		if err := val.Validate(); err != nil {
			return AsUsage(err)
		}
	}
	return nil
}

// BulkResult is what became of one row.
type BulkResult struct {
	Row    int    `json:"row" col:"ROW"`
	Key    string `json:"key" col:"NAME"`
	Status string `json:"status" col:"RESULT"` // ok, unchanged or failed
	Error  *Error `json:"error,omitempty" col:"WHY"`
}

// FieldDiff is one value that a change replaces.
type FieldDiff struct {
	Field string `json:"field" col:"FIELD"`
	Old   string `json:"old" col:"OLD"`
	New   string `json:"new" col:"NEW"`
}

// Reply is what the daemon answers; a stream sends one per row and a last one with Done.
type Reply struct {
	Result  any         `json:"result,omitempty"`
	DryRun  bool        `json:"dry_run,omitempty"`
	Diff    []FieldDiff `json:"diff,omitempty"`
	Warning []string    `json:"warning,omitempty"`
	Error   *Error      `json:"error,omitempty"`
	Done    bool        `json:"done,omitempty"`
	Version string      `json:"version,omitempty"`
}

// Verb is the last word of an operation's name.
func Verb(o Any) string { return o.Name()[strings.LastIndexByte(o.Name(), ' ')+1:] }

// Object names what an input is about for the admin log: its words.
func Object(in any) string {
	v := reflect.Indirect(reflect.ValueOf(in))
	var words []string
	for _, f := range Fields(v.Type()) {
		if f.Arg == 0 || f.File != "" {
			continue
		}
		switch x := v.FieldByIndex(f.Index); x.Kind() {
		case reflect.Slice:
			words = append(words, fmt.Sprint(x.Interface()))
		default:
			words = append(words, fmt.Sprint(reflect.Indirect(x).Interface()))
		}
	}
	return strings.Join(words, " ")
}
