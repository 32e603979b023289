package config

import (
	"log/slog"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/dot-do/relay/internal/secret"
)

// field is one setting, found by reflection over Config.
type field struct {
	key   string // dotted path in the file: source.slot
	env   string // its variable: RELAY_SLOT
	value reflect.Value
}

// fields lists the settings below v, a struct, in declaration order.
func fields(v reflect.Value, section string) []field {
	var list []field
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		if tag.Get("yaml") == "-" {
			continue
		}
		key := strings.TrimPrefix(section+"."+tag.Get("yaml"), ".")
		if env := tag.Get("env"); env != "" {
			list = append(list, field{key: key, env: env, value: v.Field(i)})
		} else {
			list = append(list, fields(v.Field(i), key)...)
		}
	}
	return list
}

// allFields lists the settings of cfg; setting a field's value sets cfg's.
func allFields(cfg *Config) []field {
	return fields(reflect.ValueOf(cfg).Elem(), "")
}

// wanted says what a setting's value looks like, for the message that it does not.
func (f field) wanted() string {
	switch f.value.Interface().(type) {
	case bool:
		return "want true or false"
	case time.Duration:
		return "want a duration with its unit, such as 15s or 2m"
	case Bytes:
		return "want an amount of data with its unit, such as 512MB or 10GB"
	case []time.Duration:
		return "want a list of durations with their units, such as 1s, 10s, 2m"
	case []netip.Prefix:
		return "want a list of networks with their prefix length, such as 10.0.0.0/8, 127.0.0.1/32"
	case slog.Level:
		return "want debug, info, warn or error"
	default:
		return "want text"
	}
}

// shown returns the given value for a message, unless it may hold a password.
func (f field) shown(text string) string {
	if _, ok := reflect.TypeAssert[secret.String](f.value); ok || text == "" {
		return ""
	}
	return " " + quote(text) + ":"
}

// quote makes text from outside fit for one line of a message.
func quote(text string) string {
	const most = 80
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strconv.Quote(text)
}

// closest returns the candidate that word was probably meant to be, or "".
func closest(word string, candidates []string) string {
	best, bestDistance := "", max(1, len(word)/3)+1
	for _, candidate := range candidates {
		if d := distance(word, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance counts the insertions, deletions and substitutions between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
