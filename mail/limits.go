package mail

import (
	"context"
	"fmt"

	"mailplusd/mail/flow"
	"mailplusd/mail/limits"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
)

// dailyLimit is R8.84–R8.87 with the policy's items 02 and 03 (R5.60–R5.75). It saves the client from
// sending what will be refused: what counts is decided when the message is stored (mail/commit).
func dailyLimit(_ context.Context, e *flow.Envelope, _ *flow.Recipient) flow.Verdict {
	if e.Actor == nil || e.Usage == nil {
		return flow.Verdict{}
	}
	l := e.Limits()
	if l.Messages.N == 0 && l.Traffic.N == 0 {
		return flow.Verdict{}
	}
	used, err := e.Usage(e.Actor.ID)
	if err != nil {
		return flow.Refuse(451, 4, 3, 0, "What you have sent can't be looked up, try again later", err.Error())
	}
	if size := max(e.Declared, e.Size, 1); l.Full(used, size, e.At) {
		return e.Exhausted(used, size)
	}
	used = used.On(model.DayOf(e.At))
	return flow.Note("%s has sent %d messages of %d octets today", e.Actor.Name, used.Messages, used.Octets)
}

// internalOnly is the policy's item 05 (R5.81). An address here that leads elsewhere, such as an
// alias, is one that the administrator has made: it is internal.
func internalOnly(_ context.Context, e *flow.Envelope, r *flow.Recipient) flow.Verdict {
	a := e.Actor
	if a == nil || a.Policy == nil || !a.Policy.InternalOnly || r.Resolved.Local && !r.Resolved.Bounce {
		return flow.Verdict{}
	}
	return flow.Refuse(550, 5, 7, 1, "You may write to addresses of this server's domains only", "policy "+a.Policy.Name+" of "+a.Name)
}

// attachmentSize is R8.82 with the policy's item 04 (R5.76–R5.80, I.37).
func attachmentSize(_ context.Context, e *flow.Envelope, _ *flow.Recipient) flow.Verdict {
	var limit limits.Value
	if e.Direction == flow.Out {
		l := e.Limits()
		limit = l.Attachment
	} else {
		domains := make([]string, len(e.Rcpts))
		for i, r := range e.Rcpts {
			domains[i] = r.Address.Domain
		}
		limit = limits.Incoming(e.Directory, e.Settings, domains)
	}
	if !limit.Passed(int64(len(e.Body))) { // decoded it is not larger
		return flow.Verdict{}
	}
	size, name := message.LargestAttachment(e.Body, flow.MessageLimits(e.Settings), limit.N)
	if size == 0 {
		return flow.Verdict{}
	}
	return flow.Refuse(552, 5, 3, 4, fmt.Sprintf("An attachment has %.2f MB, %d MB are allowed", float64(size)/model.MB, limit.N/model.MB), fmt.Sprintf("%q, limited by %s", name, limit.By))
}
