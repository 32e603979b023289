//go:build faults

package faults

// whole tells whether the whole matrix runs.
const whole = true
