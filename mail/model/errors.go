package model

import "fmt"

// FieldError says which field of a noun is wrong and what would be right.
// It is made by Validate and shown to the administrator unchanged.
type FieldError struct {
	Field  string // name as the administrator types it, such as "max-recipients"
	Reason string // what is wrong and what is allowed
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }

// Invalid makes a FieldError with a formatted reason.
func Invalid(field, format string, args ...any) error {
	return &FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
}
