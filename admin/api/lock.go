package api

import "mailplusd/admin/op"

// LockRow is a lock-out.
type LockRow struct {
	Account string `json:"account" col:"ACCOUNT AND NETWORK"`
	Until   string `json:"until" col:"UNTIL"`
}

// LockClearIn names an account.
type LockClearIn struct {
	Name string `json:"name" arg:"1" complete:"user" help:"login name or address as it was tried"`
}

// Lock-outs after wrong passwords.
var (
	LockList  = op.New[op.None, []LockRow]("login lock list", op.Spec{Summary: "list addresses that are locked out after wrong passwords", Effect: op.Read})
	LockClear = op.New[LockClearIn, op.None]("login lock clear", op.Spec{Summary: "let an account's addresses try again", Effect: op.Update, Alone: true})
)
