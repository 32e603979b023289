package config

import (
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// envPrefix opens the name of every variable that is read.
const envPrefix = "RELAY_"

// serviceLink matches the variables that Kubernetes and Docker inject into a
// container for every service named relay or relay-something. Nobody typed them.
var serviceLink = regexp.MustCompile(`^RELAY_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// readEnviron lays the RELAY_* variables over cfg. One that no setting has is a
// typo when it resembles a setting, and reported: in an environment, it is silent
// otherwise. Any other is somebody else's, such as the path or the image of this
// program in a script, and only listed.
func (p *problems) readEnviron(cfg *Config, environ []string) {
	all := allFields(cfg)
	names := make([]string, len(all)) // without RELAY_, which resembles itself
	for i, f := range all {
		names[i] = strings.TrimPrefix(f.env, envPrefix)
	}
	given := make(map[string]string)
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		short, ours := strings.CutPrefix(name, envPrefix)
		switch {
		case ours && slices.Contains(names, short):
			given[name] = value
		case ours && !tolerated(name, value):
			if meant := closest(short, names); meant != "" {
				p.addf("unknown environment variable %s; did you mean %s?", bare(name), envPrefix+meant)
			} else {
				cfg.Unread = append(cfg.Unread, bare(name))
			}
		}
	}
	for _, f := range all {
		if err := parseVariable(cfg, f, given[f.env]); err != nil {
			p.addf("%s:%s %s", f.env, f.shown(given[f.env]), f.wanted())
		}
	}
}

// parseVariable sets the field of one variable. One at a time, because an error
// of the parser does not name its variable.
func parseVariable(cfg *Config, f field, value string) error {
	if f.value.Kind() == reflect.Slice {
		value = strings.Trim(strings.ReplaceAll(value, " ", ""), ",")
	}
	// The map must not be nil: the parser would read the process's environment.
	return env.ParseWithOptions(cfg, env.Options{Environment: map[string]string{f.env: value}})
}

// tolerated reports whether a RELAY_ variable is somebody else's: the tests', or
// a service link.
func tolerated(name, value string) bool {
	return name == "RELAY_PG_BIN" ||
		strings.HasPrefix(name, "RELAY_TEST_") ||
		serviceLink.MatchString(name) ||
		strings.HasSuffix(name, "_PORT") && strings.Contains(value, "://")
}
