package filters_test

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// slowContains is containment written straight from the rules, over encoding/json: what
// Match must agree with. Both texts must be JSON; dollars mean nothing here.
func slowContains(t testing.TB, doc, filter []byte) bool {
	t.Helper()
	d, f := slowDecode(t, doc), slowDecode(t, filter)
	switch f.(type) {
	case map[string]any, []any:
		return slowValue(d, f)
	}
	if list, ok := d.([]any); ok { // only at the root does an array contain a scalar
		return slowValue(list, []any{f})
	}
	return slowValue(d, f)
}

func slowDecode(t testing.TB, text []byte) any {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	require.NoError(t, dec.Decode(&v), "%q", text)
	return v
}

func slowValue(d, f any) bool {
	switch f := f.(type) {
	case map[string]any:
		d, ok := d.(map[string]any)
		for key, want := range f {
			have, found := d[key]
			ok = ok && found && slowValue(have, want)
		}
		return ok
	case []any:
		d, ok := d.([]any)
		for _, want := range f {
			found := false
			for _, have := range d {
				found = found || slowValue(have, want)
			}
			ok = ok && found
		}
		return ok
	case json.Number:
		d, ok := d.(json.Number)
		return ok && slowNumber(string(d)) == slowNumber(string(f))
	default: // nil, bool, string
		switch d.(type) {
		case map[string]any, []any:
			return false
		}
		return d == f
	}
}

// slowNumber writes a number in the one way that equal numbers share: its digits without
// outer zeros, and the exponent of the last one.
func slowNumber(s string) string {
	s, negative := strings.CutPrefix(s, "-")
	mantissa, exponent, _ := strings.Cut(strings.ToLower(s), "e")
	exp, ok := new(big.Int).SetString("0"+strings.TrimPrefix(exponent, "+"), 10)
	if strings.HasPrefix(exponent, "-") {
		exp, ok = new(big.Int).SetString(exponent, 10)
	}
	if !ok {
		panic("not a number: " + s)
	}
	whole, frac, _ := strings.Cut(mantissa, ".")
	exp.Sub(exp, big.NewInt(int64(len(frac))))
	digits := strings.TrimLeft(whole+frac, "0")
	for strings.HasSuffix(digits, "0") {
		digits = digits[:len(digits)-1]
		exp.Add(exp, big.NewInt(1))
	}
	if digits == "" {
		return "0"
	}
	if negative {
		digits = "-" + digits
	}
	return digits + "e" + exp.String()
}
