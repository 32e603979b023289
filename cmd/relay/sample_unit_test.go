package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSamplesLookAsTheirSchemaSays(t *testing.T) {
	t.Parallel()
	for schema, want := range map[string]string{
		`{"type":"object"}`: `{}`,
		`{"type":"object","properties":{"id":{"type":"string"},"n":{"type":["null","integer"]},"ok":{"type":"boolean"},"none":{"type":"null"}}}`: `{"id":"sample id","n":1,"ok":true,"none":null}`,
		`{"properties":{"at":{"type":"string","format":"date-time"},"day":{"format":"date"}}}`:                                                   `{"at":"2026-11-24T12:00:00Z","day":"2026-11-24"}`,
		`{"properties":{"s":{"enum":["paid","new"]},"c":{"const":7},"d":{"default":"x"},"e":{"examples":[[1,2]]}}}`:                              `{"s":"paid","c":7,"d":"x","e":[1,2]}`,
		`{"type":"object","anyOf":[{"properties":{"a":{"type":"number","minimum":3}}},{"type":"object"}]}`:                                       `{"a":3}`,
		`{"allOf":[{"properties":{"a":{"type":"number"}}},{"properties":{"b":{"items":{"type":"boolean"}}}}]}`:                                   `{"a":1,"b":[true]}`,
		`{"$ref":"#/$defs/m~1n","$defs":{"m/n":{"properties":{"x":{"type":"array"}}}}}`:                                                          `{"x":[]}`,
		`{"properties":{"long":{"minLength":12},"short":{"maxLength":3}}}`:                                                                       `{"long":"sample long.","short":"sam"}`,
	} {
		var doc any
		require.NoError(t, json.Unmarshal([]byte(schema), &doc))
		m := sampler{root: doc, now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), made: new(int)}
		got, err := json.Marshal(m.of(doc, "", 0))
		require.NoError(t, err)
		require.JSONEq(t, want, string(got), schema)
	}
}

func TestASampleOfAnEndlessSchemaEnds(t *testing.T) {
	t.Parallel()
	wide := `{"properties":{"` + strings.Join([]string{"a", "b", "c", "d", "e", "f", "g", "h"}, `":{"$ref":"#"},"`) + `":{"$ref":"#"}}}`
	for _, schema := range []string{`{"$ref":"#"}`, `{"allOf":[{"$ref":"#"},{"$ref":"#"}]}`, `{"items":{"$ref":"#"}}`, wide} {
		var doc any
		require.NoError(t, json.Unmarshal([]byte(schema), &doc))
		made := 0
		m := sampler{root: doc, made: &made}
		out, err := json.Marshal(m.of(doc, "", 0))
		require.NoError(t, err)
		require.Less(t, len(out), 4<<20)
	}
}
