package filters_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

func TestAFilterThatAsksForNothingIsRemarkedOn(t *testing.T) {
	require.Equal(t, []filters.Warning{{Code: filters.MatchesAll, Message: "the filter matches every event of its type"}}, compile(t, `{}`).Warnings())
}

func TestConditionsThatNeverHoldTogetherAreRemarkedOn(t *testing.T) {
	for src, where := range map[string]string{
		`{"a":{"$gt":5,"$lt":3}}`:                                       "/a/$lt",
		`{"a":{"$gt":5,"$lte":5}}`:                                      "/a/$lte",
		`{"a":{"$gte":"b","$lt":"a"}}`:                                  "/a/$lt",
		`{"a":{"$gt":5,"$lt":"x"}}`:                                     "/a/$lt",
		`{"a":{"$eq":5,"$gt":5}}`:                                       "/a/$gt",
		`{"a":{"$eq":5,"$ne":5.0}}`:                                     "/a/$ne",
		`{"a":{"$eq":"x","$nin":["x","y"]}}`:                            "/a/$nin",
		`{"a":{"$in":[1,2],"$gt":2}}`:                                   "/a/$in",
		`{"a":{"$in":[1,2],"$eq":3}}`:                                   "/a/$in",
		`{"a":{"$eq":"abc","$prefix":"b"}}`:                             "/a/$prefix",
		`{"a":{"$eq":"abc","$suffix":"b"}}`:                             "/a/$suffix",
		`{"a":{"$eq":"abc","$contains":"d"}}`:                           "/a/$eq",
		`{"a":{"$prefix":"x","$gt":1}}`:                                 "/a/$prefix",
		`{"a":{"$exists":false,"$neq":1}}`:                              "/a/$neq",
		`{"a":{"$exists":false,"$not":{"$gt":1},"$eq":[]}}`:             "/a/$exists",
		`{"a":{"b":1,"$and":[{"$exists":false}]}}`:                      "/a/$and/0/$exists",
		`{"a":1,"$and":[{"b":1},{"a":2}]}`:                              "/a",
		`{"a":[1],"$and":[{"a":{"b":1}}]}`:                              "/a",
		`{"a":[1,{"x":{"$gt":5,"$lt":3}}]}`:                             "/a/1/x/$lt",
		`{"a":[{"$exists":false}]}`:                                     "/a/0/$exists",
		`{"a":1,"$or":[{"a":1},{"a":2}]}`:                               "/$or/1/a",
		`{"$or":[{"a":1},{"b":{"$or":[{"$gt":1,"$lt":0},{"$gt":1}]}}]}`: "/$or/1/b/$or/0/$lt",
		`{"$before":{"a":1,"$and":[{"a":2}]}}`:                          "/$before/a",
		`{"$op":"insert","$before":{}}`:                                 "/$op",
		`{"$op":["delete","truncate"],"$changed":["a"]}`:                "/$op",
		`{"$op":["insert","read"],"a":{"$from":1}}`:                     "/a/$from",
		`{"$op":"delete","a":{"$to":1}}`:                                "/a/$to",
		`{"$op":"insert","$and":[{"$op":"update"}]}`:                    "/$op",
		`{"a":{"$from":1,"$to":1.0}}`:                                   "/a/$to",
		`{"a":{"$to":1,"$eq":2}}`:                                       "/a/$to",
	} {
		f := compile(t, src)
		require.Len(t, f.Warnings(), 1, "%s: %v", src, f.Warnings())
		require.Equal(t, filters.NeverMatches, f.Warnings()[0].Code)
		require.Equal(t, where, f.Warnings()[0].Pointer, src)
		require.NotEmpty(t, f.Warnings()[0].Message)
	}
}

func TestConditionsThatHoldTogetherAreNotRemarkedOn(t *testing.T) {
	for src, told := range map[string]string{
		`{"a":{"$gte":5,"$lte":5,"$eq":5,"$in":[1,5],"$ne":4,"$nin":[6],"$exists":true}}`:                 `{"data":{"a":5}}`,
		`{"a":{"$eq":"abc","$prefix":"ab","$suffix":"c","$contains":"b","$gt":"a","$lt":"b"}}`:            `{"data":{"a":"abc"}}`,
		`{"a":{"$ne":1,"$and":[{"b":1}]}}`:                                                                `{"data":{"a":{"b":1}}}`,
		`{"a":{"$eq":{"b":1},"$and":[{"b":1}]}}`:                                                          `{"data":{"a":{"b":1}}}`,
		`{"a":{"$eq":[1]},"$and":[{"a":[1]}]}`:                                                            `{"data":{"a":[1]}}`,
		`{"a":[1,2,{"$gt":5},{"$lt":3}]}`:                                                                 `{"data":{"a":[1,2,6]}}`,
		`{"a":{"$exists":false},"$not":{"a":1}}`:                                                          `{"data":{}}`,
		`{"a":1,"$not":{"a":{"$gt":5,"$lt":3}}}`:                                                          `{"data":{"a":1}}`,
		`{"a":{"$exists":false,"$not":{"$exists":true}}}`:                                                 `{"data":{}}`,
		`{"$or":[{"a":1},{"a":2}]}`:                                                                       `{"data":{"a":2}}`,
		`{"$before":{"a":1},"a":2}`:                                                                       `{"op":"update","data":{"a":2},"before":{"a":1}}`,
		`{"a":{"$from":1,"$to":2}}`:                                                                       `{"op":"update","data":{"a":2},"before":{"a":1}}`,
		`{"a":{"$from":[1],"$to":[1]}}`:                                                                   `{"op":"update","data":{"a":[1,2]},"before":{"a":[1]}}`,
		`{"$before":{"a":{"$exists":false}},"$op":["update","insert"],"$changed":["a"],"a":{"$to":null}}`: `{"op":"update","data":{"a":null},"before":{}}`,
		`{"$op":["delete","insert"],"$before":{"a":1}}`:                                                   `{"op":"delete","data":{"a":1}}`,
	} {
		f := compile(t, src)
		require.Empty(t, f.Warnings(), src)
		require.Equal(t, filters.Yes, f.MatchEvent(event(t, []byte(told))), src)
	}
}

func TestWarningsAreFewAndTheCallersOwn(t *testing.T) {
	src := `{"$and":[{"a":1}`
	for range 60 {
		src += `,{"a":2}`
	}
	f := compile(t, src+`]}`)
	require.Len(t, f.Warnings(), 16)
	f.Warnings()[0].Message = "changed"
	require.NotEqual(t, "changed", f.Warnings()[0].Message)
}
