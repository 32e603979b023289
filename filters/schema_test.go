package filters_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

func TestUnknownPathsAreThoseThatNoAlternativeOfTheSchemaHas(t *testing.T) {
	const order = `{"type":"object","properties":{
		"id":{"type":"string"}, "data":{}, "owner":{"type":["object","null"],"properties":{"plan":{"type":"string"}}},
		"items":{"type":"array","items":{"type":"object","properties":{"sku":{},"tags":{"type":"array","items":{"type":"string"}}}}},
		"map":{"type":"object","additionalProperties":{"properties":{"n":{}}}}, "closed":{"type":"object","additionalProperties":false},
		"pair":{"prefixItems":[{},{}]}, "old pair":{"items":[{},{}]}, "list":{"type":"array"}}}`
	for _, c := range []struct {
		schema, filter string
		want           []string
	}{
		{order, `{"id":1,"data":{"x":{"y":1}},"owner":{"plan":"pro"},"items":[{"sku":"A"}],"map":{"any":{"n":1}}}`, nil},
		{order, `{"ids":1,"id":{"x":{"y":1}},"owner":{"plan":{"$exists":false},"name":"x"}}`, []string{"id.x", "ids", "owner.name"}},
		{order, `{"items":[{"sku":"A","qty":1},{"tags":[{"$prefix":"x"},{"x":1}]},[1]]}`, []string{"items[].qty", "items[].tags[].x"}},
		{order, `{"items":{"sku":1},"list":[{"x":[1]}],"data":[{"x":1}],"pair":[{"x":1}],"old pair":[{"x":1}],"id":[{"$gt":1}]}`, []string{"id[]", "items.sku"}},
		{order, `{"map":{"any":{"m":1}},"closed":{"x":1}}`, []string{"closed.x", "map.any.m"}},
		{
			order, `{"$changed":["status","items.0.sku","items.0.qty","id.0","data.0","map.0"],"$before":{"total":1,"id":"x"}}`,
			[]string{"id.0", "items.0.qty", "status", "total"},
		},
		{order, `{"$changed":{"outside":["updated_at","owner.plan"]},"a.b":{"$from":1},"$or":[{"$not":{"c":1}},{"id":1}]}`, []string{"/a.b", "c", "updated_at"}},
		{`{"type":"object","anyOf":[{"properties":{"a":{}}},{"properties":{"b":{}}}]}`, `{"a":1,"b":1,"c":1}`, []string{"c"}},
		{`{"type":"object","anyOf":[{"properties":{"a":{}}},{"type":"object"}]}`, `{"a":1,"c":1}`, nil},
		{`{"properties":{"k":{}},"oneOf":[{"required":["k"]},{"properties":{"a":{}}}]}`, `{"k":1,"a":1,"c":1}`, []string{"c"}},
		{`{"allOf":[{"properties":{"a":{}}},{"properties":{"b":{}}},{"required":["a"]}]}`, `{"a":1,"b":1,"c":1}`, []string{"c"}},
		{`{"properties":{"a":{"anyOf":[{"type":"null"},{"properties":{"b":{}}}]}}}`, `{"a":{"b":1,"c":1}}`, []string{"a.c"}},
		{`{"properties":{"a":{}},"additionalProperties":true}`, `{"b":1}`, nil},
		{`{"properties":{"a":{"$ref":"#/x"}}}`, `{"a":{"b":1}}`, nil},
		{`{"properties":{"a":{}},"patternProperties":{"^x":{}}}`, `{"b":1}`, nil},
		{`{"properties":{"a":false}}`, `{"a":1}`, []string{"a"}},
		{`{"type":"object"}`, `{"a":{"b":1}}`, nil},
		{`{}`, `{"a":1}`, nil},
		{`true`, `{"a":1}`, nil},
		{`[]`, `{"a":1}`, nil},
		{`{"properties":[],"anyOf":{},"type":7,"items":3}`, `{"a":[{"b":1}]}`, nil},
		{`{"properties":`, `{"a":1}`, nil},
		{``, `{"a":1}`, nil},
	} {
		got := compile(t, c.filter).UnknownPaths([]byte(c.schema))
		require.ElementsMatch(t, c.want, got, "%s\n%s", c.schema, c.filter)
	}
}

func TestAHostileSchemaKnowsEverything(t *testing.T) {
	f := compile(t, `{"a":{"b":[{"c":1}]}}`)
	for _, nested := range []string{`{"anyOf":[`, `{"allOf":[{"type":"object"},`, `{"oneOf":[{"properties":{}},`} {
		for _, depth := range []int{100, 4_000, 100_000} {
			require.Empty(t, f.UnknownPaths([]byte(strings.Repeat(nested, depth)+`{"properties":{"a":{}}}`+strings.Repeat(`]}`, depth))))
		}
	}
}

func FuzzUnknownPaths(f *testing.F) {
	f.Add([]byte(`{"properties":{"a":{"items":{"properties":{"b":{}}}}}}`), []byte(`{"a":[{"c":1}],"$changed":["a.0.b"]}`))
	f.Fuzz(func(t *testing.T, schema, src []byte) {
		filter, err := filters.Compile(src)
		if err != nil {
			return
		}
		for _, p := range filter.UnknownPaths(schema) {
			require.NotEmpty(t, p)
		}
	})
}
