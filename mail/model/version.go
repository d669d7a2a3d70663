package model

// Version of the program, and the feature baseline it follows (R1.09).
const (
	Version  = "0.1.0"
	Baseline = "2.0"
)
