package filters_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

// operatorRule is one statement about the operators, for a row that nothing happened to.
type operatorRule struct {
	filter string
	yes    []string // rows that match
	no     []string
}

// operatorRules are grouped by the idea they show. TestPostgresSaysWhatTheOperatorsDo asks
// a server about each.
var operatorRules = map[string][]operatorRule{
	"$eq is equality of the whole value, not containment": {
		{`{"a":{"$eq":1}}`, []string{`{"a":1.0}`, `{"a":10e-1,"b":2}`}, []string{`{"a":"1"}`, `{"a":[1]}`, `{"a":null}`, `{}`}},
		{`{"a":{"$eq":[]}}`, []string{`{"a":[]}`}, []string{`{"a":[1]}`, `{"a":{}}`, `{}`}},
		{`{"a":{"$eq":[1,2]}}`, []string{`{"a":[1.0,2]}`}, []string{`{"a":[2,1]}`, `{"a":[1,2,2]}`, `{"a":[1]}`}},
		{`{"a":{"$eq":{"x":1,"y":[]}}}`, []string{`{"a":{"y":[],"x":1e0}}`}, []string{`{"a":{"x":1}}`, `{"a":{"x":1,"y":[],"z":0}}`}},
		{`{"a":{"$eq":null}}`, []string{`{"a":null}`}, []string{`{}`, `{"a":0}`}},
		{`{"a":{"$eq":{"$$x":1}}}`, []string{`{"a":{"$x":1}}`}, []string{`{"a":{"$$x":1}}`}},
		{`{"a":{"$eq":{"x":2}}}`, []string{`{"a":{"x":1,"x":2}}`}, []string{`{"a":{"x":2,"x":1}}`}},
	},
	"$ne is Yes for every other value that is there": {
		{`{"a":{"$ne":5}}`, []string{`{"a":4}`, `{"a":"5"}`, `{"a":null}`, `{"a":[5]}`, `{"a":{}}`}, []string{`{"a":5.0}`, `{}`}},
		{`{"a":{"$ne":[1]}}`, []string{`{"a":[1,1]}`, `{"a":1}`}, []string{`{"a":[1.0]}`, `{}`}},
		{`{"a":{"$ne":null}}`, []string{`{"a":false}`}, []string{`{"a":null}`, `{}`}},
		{`{"a":{"$neq":5}}`, []string{`{"a":4}`}, []string{`{"a":5}`, `{}`}},
	},
	"numbers are ordered as exact decimals": {
		{`{"a":{"$gt":9007199254740992}}`, []string{`{"a":9007199254740993}`, `{"a":1e400}`}, []string{`{"a":9007199254740992}`, `{"a":-1e400}`, `{}`}},
		{`{"a":{"$gte":0.1}}`, []string{`{"a":0.10}`, `{"a":0.10000000000000000001}`}, []string{`{"a":0.09999999999999999999}`}},
		{`{"a":{"$lt":-1}}`, []string{`{"a":-1.5}`, `{"a":-10e0}`}, []string{`{"a":-1.0}`, `{"a":0}`, `{"a":-0.9}`}},
		{`{"a":{"$lte":0}}`, []string{`{"a":-0}`, `{"a":0e9}`, `{"a":-1e-400}`}, []string{`{"a":1e-400}`}},
		{`{"a":{"$gt":5}}`, nil, []string{`{"a":"6"}`, `{"a":null}`, `{"a":true}`, `{"a":[6]}`, `{"a":{}}`}},
	},
	"strings are ordered by bytes": {
		{`{"a":{"$gt":"b"}}`, []string{`{"a":"ba"}`, `{"a":"é"}`, `{"a":"\u0063"}`}, []string{`{"a":"b"}`, `{"a":"B"}`, `{"a":""}`, `{"a":1}`, `{}`}},
		{`{"a":{"$lte":"2026-01-01"}}`, []string{`{"a":"2025-12-31T23:59:59Z"}`, `{"a":"2026-01-01"}`}, []string{`{"a":"2026-01-01T00:00:00Z"}`}},
		{`{"a":{"$lt":"\ud83d\ude00"}}`, []string{`{"a":"\uffff"}`, `{"a":"z"}`}, []string{`{"a":"😀"}`, `{"a":"😁"}`}},
		{`{"a":{"$gte":""}}`, []string{`{"a":""}`, `{"a":"x"}`}, []string{`{"a":null}`, `{}`}},
	},
	"$in and $nin ask for a scalar": {
		{`{"a":{"$in":[1,"x",null,true]}}`, []string{`{"a":1.0}`, `{"a":"x"}`, `{"a":null}`, `{"a":true}`}, []string{`{"a":2}`, `{"a":"1"}`, `{"a":[1]}`, `{"a":{}}`, `{"a":false}`, `{}`}},
		{`{"a":{"$nin":[1,"x"]}}`, []string{`{"a":2}`, `{"a":"1"}`, `{"a":null}`}, []string{`{"a":1e0}`, `{"a":"x"}`, `{"a":[2]}`, `{"a":{}}`, `{}`}},
	},
	"string operators speak of bytes of a string": {
		{`{"a":{"$prefix":"ab"}}`, []string{`{"a":"ab"}`, `{"a":"\u0061bc"}`}, []string{`{"a":"a"}`, `{"a":"Ab"}`, `{"a":["ab"]}`, `{"a":1}`, `{}`}},
		{`{"a":{"$suffix":"é"}}`, []string{`{"a":"caf\u00e9"}`}, []string{`{"a":"cafe\u0301"}`, `{"a":"éa"}`, `{"a":null}`}},
		{`{"a":{"$contains":"\n"}}`, []string{`{"a":"x\ny"}`, `{"a":"\u000a"}`}, []string{`{"a":"x\\ny"}`, `{"a":["\n"]}`}},
		{`{"a":{"$contains":"%_"}}`, []string{`{"a":"a%_b"}`}, []string{`{"a":"abc"}`}},
		{`{"a":{"$startsWith":"x"}}`, []string{`{"a":"xy"}`}, []string{`{"a":"yx"}`}},
		{`{"a":{"$endsWith":"x"}}`, []string{`{"a":"yx"}`}, []string{`{"a":"xy"}`}},
	},
	"null is a value and missing is none": {
		{`{"a":{"$exists":true}}`, []string{`{"a":null}`, `{"a":[]}`}, []string{`{}`, `{"b":1}`}},
		{`{"a":{"$exists":false}}`, []string{`{}`}, []string{`{"a":null}`}},
		{`{"a":{"$exist":false}}`, []string{`{}`}, []string{`{"a":null}`}},
		{`{"a":{"$not":{"$eq":1}}}`, []string{`{}`, `{"a":null}`}, []string{`{"a":1}`}},
		{`{"a":{"$exists":false,"$ne":1}}`, nil, []string{`{}`, `{"a":1}`, `{"a":2}`}},
	},
	"plain keys ask for an object, operators do not": {
		{`{"a":{"b":{"$exists":false}}}`, []string{`{"a":{}}`, `{"a":{"c":1}}`}, []string{`{}`, `{"a":null}`, `{"a":[]}`, `{"a":{"b":null}}`}},
		{`{"a":{"b":{"$not":{"$eq":1}}}}`, []string{`{"a":{}}`, `{"a":{"b":2}}`}, []string{`{}`, `{"a":5}`, `{"a":{"b":1}}`}},
		{`{"a":{"b":{"$or":[{"$exists":false},{"$eq":1}]}}}`, []string{`{"a":{}}`, `{"a":{"b":1}}`}, []string{`{}`, `{"a":"b"}`, `{"a":{"b":2}}`}},
		{`{"a":{"$not":{}}}`, []string{`{}`, `{"a":1}`, `{"a":[]}`}, []string{`{"a":{}}`, `{"a":{"b":1}}`}},
		{`{"a":{"$not":{"b":1}}}`, []string{`{}`, `{"a":1}`, `{"a":{}}`}, []string{`{"a":{"b":1}}`}},
		{`{"a":{"b":{"$exists":false},"$and":[{"$ne":5}]}}`, []string{`{"a":{}}`}, []string{`{"a":6}`, `{"a":"x"}`, `{"a":[]}`, `{}`}},
		{`{"a":{"b":{"$not":{"$eq":1}},"$or":[{"$exists":true}]}}`, []string{`{"a":{"b":2}}`}, []string{`{"a":null}`, `{}`}},
		{`{"a":{"$and":[{}]}}`, []string{`{"a":{}}`}, []string{`{}`, `{"a":1}`}},
		{`{"a":{"b":{"c":{"$exists":false}}}}`, []string{`{"a":{"b":{}}}`}, []string{`{"a":{}}`, `{}`}},
	},
	"logic joins conditions on the same value": {
		{`{"a":{"$or":[{"$lt":1},{"$gt":5}]}}`, []string{`{"a":0}`, `{"a":6}`}, []string{`{"a":1}`, `{"a":5}`, `{}`}},
		{`{"a":{"$gte":1,"$lt":5,"$not":{"$in":[2,3]}}}`, []string{`{"a":1}`, `{"a":4}`}, []string{`{"a":2}`, `{"a":5}`, `{}`}},
		{`{"$or":[{"a":1},{"b":2}],"c":3}`, []string{`{"a":1,"c":3}`, `{"b":2,"c":3}`}, []string{`{"a":1}`, `{"c":3}`}},
		{`{"$and":[{"$or":[{"a":1},{"a":2}]},{"$not":{"b":1}}]}`, []string{`{"a":2}`, `{"a":1,"b":2}`}, []string{`{"a":1,"b":1}`, `{"a":3}`}},
		{`{"$not":{"a":1,"b":2}}`, []string{`{"a":1}`, `{"a":1,"b":3}`, `{}`}, []string{`{"a":1,"b":2,"c":3}`}},
		{`{"$not":{}}`, nil, []string{`{}`, `{"a":1}`}},
		{`{"a":{"b":1,"$or":[{"c":1},{"d":1}]}}`, []string{`{"a":{"b":1,"c":1}}`, `{"a":{"b":1,"d":1}}`}, []string{`{"a":{"b":1}}`, `{"a":{"c":1}}`}},
		{`{"a":{"b":1,"$not":{"$eq":{"b":1}}}}`, []string{`{"a":{"b":1,"c":2}}`}, []string{`{"a":{"b":1.0}}`}},
		{`{"$not":{"$not":{"a":1}}}`, []string{`{"a":1}`}, []string{`{}`}},
	},
	"one element must satisfy all that an element of the filter says": {
		{`{"a":[{"qty":{"$gte":3},"sku":{"$prefix":"A"}}]}`, []string{`{"a":[{"qty":1,"sku":"A1"},{"qty":3,"sku":"A2"}]}`}, []string{`{"a":[{"qty":3,"sku":"B"},{"qty":1,"sku":"A"}]}`, `{"a":{"qty":3,"sku":"A"}}`, `{"a":[]}`}},
		{`{"a":[{"$prefix":"x"}]}`, []string{`{"a":[1,"xy"]}`}, []string{`{"a":"xy"}`, `{"a":[["xy"]]}`, `{"a":[]}`, `{}`}},
		{`{"a":[{"$gt":1,"$lt":3},5]}`, []string{`{"a":[5,2]}`}, []string{`{"a":[0,5,4]}`, `{"a":[2]}`}},
		{`{"a":[{"$exists":false}]}`, nil, []string{`{"a":[]}`, `{"a":[null]}`, `{}`}},
		{`{"a":[{"$exists":true}]}`, []string{`{"a":[null]}`}, []string{`{"a":[]}`, `{"a":{}}`}},
		{`{"a":[{"$not":{"$eq":1}}]}`, []string{`{"a":[1,2]}`}, []string{`{"a":[1,1.0]}`, `{"a":[]}`, `{"a":2}`, `{}`}},
		{`{"$not":{"a":[1]}}`, []string{`{"a":[2]}`, `{"a":1}`, `{}`}, []string{`{"a":[2,1.0]}`}},
		{`{"a":[[{"$gt":1}]]}`, []string{`{"a":[[0,2]]}`}, []string{`{"a":[2]}`, `{"a":[[1]]}`}},
		{`{"a":[{"b":{"$exists":false}}]}`, []string{`{"a":[{}]}`, `{"a":[1,{"c":1}]}`}, []string{`{"a":[1]}`, `{"a":[{"b":1}]}`}},
		{`{"a":[{"$or":[{"$eq":1},{"b":2}]}]}`, []string{`{"a":[1]}`, `{"a":[{"b":2}]}`}, []string{`{"a":[{"b":1},2]}`}},
	},
	"a doubled dollar is a literal one in every operand": {
		{`{"$$a":{"$gt":1}}`, []string{`{"$a":2}`}, []string{`{"$$a":2}`, `{"a":2}`}},
		{`{"a":{"$$gt":1}}`, []string{`{"a":{"$gt":1}}`}, []string{`{"a":2}`}},
		{`{"a":[{"$$eq":1,"$or":[{"b":1},{"$$c":1}]}]}`, []string{`{"a":[{"$eq":1,"$c":1}]}`}, []string{`{"a":[{"$eq":1}]}`, `{"a":[1]}`}},
	},
}

// changeRule is one statement about conditions on a change, or on what was not sent.
type changeRule struct {
	filter string
	trial
	want filters.Verdict
}

const (
	no      = filters.No
	unknown = filters.Unknown
	yes     = filters.Yes
)

var changeRules = map[string][]changeRule{
	"$op is one operation or one of several": {
		{`{"$op":"insert"}`, trial{op: "insert"}, yes},
		{`{"$op":["insert","delete"]}`, trial{op: "delete"}, yes},
		{`{"$op":["insert","delete"]}`, trial{op: "update"}, no},
		{`{"$op":"truncate"}`, trial{op: "truncate"}, yes},
		{`{"$op":"insert"}`, trial{op: "read"}, no},
		{`{"$op":"read"}`, trial{op: "read"}, yes},
		{`{"$not":{"$op":"insert"}}`, trial{op: "update"}, yes},
		{`{"$or":[{"$op":"insert"},{"a":1}]}`, trial{op: "update", data: `{"a":1}`}, yes},
	},
	"$changed compares by value, and missing is not null": {
		{`{"$changed":["a"]}`, trial{op: "update", data: `{"a":1}`, before: `{"a":2}`}, yes},
		{`{"$changed":["a"]}`, trial{op: "update", data: `{"a":1}`, before: `{"a":1.0}`}, no},
		{`{"$changed":["a"]}`, trial{op: "update", data: `{"a":null}`, before: `{}`}, yes},
		{`{"$changed":["a"]}`, trial{op: "update", data: `{}`, before: `{}`}, no},
		{`{"$changed":["a","b"]}`, trial{op: "update", data: `{"a":1,"b":1}`, before: `{"a":1,"b":2}`}, yes},
		{`{"$changed":["a"]}`, trial{op: "update", data: `{"a":{"x":1,"y":2}}`, before: `{"a":{"y":2,"x":1}}`}, no},
		{`{"$changed":["a"]}`, trial{op: "update", data: `{"a":[1,2]}`, before: `{"a":[2,1]}`}, yes},
		{`{"$changed":["a.b"]}`, trial{op: "update", data: `{"a":{"b":1,"c":1}}`, before: `{"a":{"b":1,"c":2}}`}, no},
		{`{"$changed":["a.b"]}`, trial{op: "update", data: `{"a":{"b":1}}`, before: `{"a":5}`}, yes},
		{`{"$changed":["a.b"]}`, trial{op: "update", data: `{"a.b":1}`, before: `{"a.b":2}`}, no},
		{`{"$changed":["/a.b"]}`, trial{op: "update", data: `{"a.b":1}`, before: `{"a.b":2}`}, yes},
		{`{"$changed":["/a~1b/~0"]}`, trial{op: "update", data: `{"a/b":{"~":1}}`, before: `{"a/b":{"~":2}}`}, yes},
		{`{"$changed":["a.1"]}`, trial{op: "update", data: `{"a":[1,2]}`, before: `{"a":[2,2]}`}, no},
		{`{"$changed":["a.0"]}`, trial{op: "update", data: `{"a":[1,2]}`, before: `{"a":[2,2]}`}, yes},
		{`{"$changed":["a.0"]}`, trial{op: "update", data: `{"a":{"0":1}}`, before: `{"a":{"0":2}}`}, yes},
		{`{"$changed":["a.0"]}`, trial{op: "update", data: `{"a":{"0":1}}`, before: `{"a":[1]}`}, no},
		{`{"$changed":["a.00","a.-1"]}`, trial{op: "update", data: `{"a":[1]}`, before: `{"a":[2]}`}, no},
		{`{"$changed":["a.1"]}`, trial{op: "update", data: `{"a":[1,null]}`, before: `{"a":[1]}`}, yes},
	},
	"$changed outside sees everything but its paths": {
		{`{"$changed":{"outside":["updated_at"]}}`, trial{op: "update", data: `{"updated_at":1,"a":1}`, before: `{"updated_at":2,"a":1.0}`}, no},
		{`{"$changed":{"outside":["updated_at"]}}`, trial{op: "update", data: `{"updated_at":1,"a":1}`, before: `{"updated_at":1,"a":2}`}, yes},
		{`{"$changed":{"outside":["a.b"]}}`, trial{op: "update", data: `{"a":{"b":1,"c":1}}`, before: `{"a":{"b":2,"c":1}}`}, no},
		{`{"$changed":{"outside":["a.b"]}}`, trial{op: "update", data: `{"a":{"b":1,"c":1}}`, before: `{"a":{"c":2}}`}, yes},
		{`{"$changed":{"outside":["a.b"]}}`, trial{op: "update", data: `{"a":{"b":1}}`, before: `{}`}, yes},
		{`{"$changed":{"outside":["a.0"]}}`, trial{op: "update", data: `{"a":[1]}`, before: `{"a":[2]}`}, yes},
		{`{"$changed":{"outside":["a.b"]}}`, trial{op: "update", data: `{"a":[{"b":1}]}`, before: `{"a":[{"b":2}]}`}, yes},
		{`{"$changed":{"outside":[]}}`, trial{op: "update", data: `{"a":1}`, before: `{"a":1}`}, no},
		{`{"$changed":{"outside":["a","/b"]}}`, trial{op: "insert", data: `{"a":1,"b":1}`}, no},
		{`{"$changed":{"outside":["a"]}}`, trial{op: "insert", data: `{"a":1,"b":1}`}, yes},
	},
	"$from and $to are contained, and the values differ": {
		{`{"s":{"$from":"pending","$to":"approved"}}`, trial{op: "update", data: `{"s":"approved"}`, before: `{"s":"pending"}`}, yes},
		{`{"s":{"$from":"pending","$to":"approved"}}`, trial{op: "update", data: `{"s":"approved"}`, before: `{"s":"draft"}`}, no},
		{`{"s":{"$to":"approved"}}`, trial{op: "update", data: `{"s":"approved"}`, before: `{"s":"approved"}`}, no},
		{`{"s":{"$to":"approved"}}`, trial{op: "update", data: `{"s":"approved"}`, before: `{}`}, yes},
		{`{"s":{"$from":"pending"}}`, trial{op: "update", data: `{}`, before: `{"s":"pending"}`}, yes},
		{`{"s":{"$from":{"x":1},"$to":{"x":1}}}`, trial{op: "update", data: `{"s":{"x":1,"y":1}}`, before: `{"s":{"x":1,"y":2}}`}, yes},
		{`{"a":{"s":{"$to":[1]}}}`, trial{op: "update", data: `{"a":{"s":[1,2]}}`, before: `{"a":{"s":[2]}}`}, yes},
		{`{"a":{"s":{"$to":1}}}`, trial{op: "update", data: `{"a":{"s":[1]}}`, before: `{"a":{"s":2}}`}, no},
		{`{"n":{"$from":1,"$gt":3}}`, trial{op: "update", data: `{"n":4}`, before: `{"n":1}`}, yes},
		{`{"n":{"$from":1,"$gt":3}}`, trial{op: "update", data: `{"n":3}`, before: `{"n":1}`}, no},
		{`{"n":{"$or":[{"$to":1},{"$to":2}]}}`, trial{op: "update", data: `{"n":2}`, before: `{"n":1}`}, yes},
	},
	"$before asks for a row that was there": {
		{`{"$before":{"a":1}}`, trial{op: "update", data: `{"a":2}`, before: `{"a":1}`}, yes},
		{`{"$before":{"a":1}}`, trial{op: "update", data: `{"a":1}`, before: `{"a":2}`}, no},
		{`{"$before":{}}`, trial{op: "update", data: `{}`, before: `{}`}, yes},
		{`{"$before":{"$not":{"a":1}}}`, trial{op: "update", data: `{}`, before: `{}`}, yes},
		{`{"$before":{"$or":[{"a":{"$gt":3}},{"b":[{"$prefix":"x"}]}]}}`, trial{op: "update", data: `{}`, before: `{"b":["xy"]}`}, yes},
	},
	"before an insert every field is missing": {
		{`{"$changed":["a"]}`, trial{op: "insert", data: `{"a":null}`}, yes},
		{`{"$changed":["a"]}`, trial{op: "insert", data: `{"b":1}`}, no},
		{`{"$changed":["a"]}`, trial{op: "read", data: `{"a":1}`}, yes},
		{`{"a":{"$to":1}}`, trial{op: "insert", data: `{"a":1}`}, yes},
		{`{"a":{"$to":1}}`, trial{op: "insert", data: `{"a":2}`}, no},
		{`{"a":{"$from":null}}`, trial{op: "insert", data: `{"a":1}`}, no},
		{`{"$before":{}}`, trial{op: "insert", data: `{"a":1}`}, no},
		{`{"$before":{"$not":{"a":1}}}`, trial{op: "insert", data: `{"a":1}`}, no},
		{`{"$not":{"$before":{}}}`, trial{op: "read", data: `{"a":1}`}, yes},
		// What a row before an insert says is not asked.
		{`{"$changed":["a"]}`, trial{op: "insert", data: `{"a":1}`, before: `{"a":1}`}, yes},
	},
	"a delete tells the row that was": {
		{`{"a":1}`, trial{op: "delete", data: `{"a":1}`}, yes},
		{`{"$before":{"a":1}}`, trial{op: "delete", data: `{"a":1}`}, yes},
		{`{"$before":{"a":1}}`, trial{op: "delete", data: `{"a":2}`, before: `{"a":1}`}, no},
		{`{"$changed":["a"]}`, trial{op: "delete", data: `{"a":1}`}, no},
		{`{"$changed":{"outside":[]}}`, trial{op: "delete", data: `{"a":1}`}, no},
		{`{"a":{"$from":1}}`, trial{op: "delete", data: `{"a":1}`}, no},
		{`{"a":{"$to":1}}`, trial{op: "delete", data: `{"a":1}`}, no},
		{`{"a":{"$not":{"$from":1}}}`, trial{op: "delete", data: `{"a":1}`}, yes},
		{`{"$changed":["a"]}`, trial{op: "delete", data: `{}`, unsent: []string{"a"}}, no},
	},
	"a truncate has no row": {
		{`{}`, trial{op: "truncate"}, yes},
		{`{"a":1}`, trial{op: "truncate", data: `{"a":1}`}, no},
		{`{"a":{"$exists":false}}`, trial{op: "truncate"}, yes},
		{`{"a":{"$exists":true}}`, trial{op: "truncate", unsent: []string{"a"}}, no},
		{`{"$before":{}}`, trial{op: "truncate"}, no},
		{`{"$changed":["a"]}`, trial{op: "truncate"}, no},
		{`{"a":{"$to":1}}`, trial{op: "truncate"}, no},
	},
	"of an unknown operation only the row is known": {
		{`{"$op":"insert"}`, trial{}, unknown},
		{`{"$not":{"$op":"insert"}}`, trial{}, unknown},
		{`{"$changed":["a"]}`, trial{data: `{"a":1}`}, unknown},
		{`{"$changed":{"outside":[]}}`, trial{}, unknown},
		{`{"$before":{}}`, trial{}, unknown},
		{`{"$before":{"a":{"$exists":false}}}`, trial{data: `{"a":1}`, before: `{"a":1}`}, unknown},
		{`{"a":{"$to":1}}`, trial{data: `{"a":1}`}, unknown},
		{`{"a":{"$from":1}}`, trial{data: `{"a":1}`, before: `{"a":2}`}, unknown},
		{`{"a":{"$from":1,"$to":2}}`, trial{data: `{"a":2}`, before: `{"a":2}`}, unknown},
		{`{"a":{"$to":1}}`, trial{data: `{"a":2}`}, no},
		{`{"a":{"$not":{"$to":1}}}`, trial{data: `{"a":2}`}, yes},
		{`{"$before":{"$not":{}}}`, trial{}, no},
		{`{"a":1,"$op":"insert"}`, trial{data: `{"a":2}`}, no},
		{`{"$or":[{"a":1},{"$op":"insert"}]}`, trial{data: `{"a":1}`}, yes},
	},
	"what was not sent is unknown, but there": {
		{`{"a":1}`, trial{op: "update", unsent: []string{"a"}}, unknown},
		{`{"a":{}}`, trial{op: "update", unsent: []string{"a"}}, unknown},
		{`{"a":[]}`, trial{op: "update", unsent: []string{"a"}}, unknown},
		{`{"a":{"$exists":true}}`, trial{op: "update", unsent: []string{"a"}}, yes},
		{`{"a":{"$exists":false}}`, trial{op: "update", unsent: []string{"a"}}, no},
		{`{"a":{"$not":{"$exists":false}}}`, trial{op: "update", unsent: []string{"a"}}, yes},
		{`{"a":{"b":{"$exists":false}}}`, trial{op: "update", unsent: []string{"a"}}, unknown},
		{`{"a":{"$not":{"$eq":1}}}`, trial{op: "update", unsent: []string{"a"}}, unknown},
		{`{"$not":{"a":1}}`, trial{op: "update", unsent: []string{"a"}}, unknown},
		{`{"$not":{"a":1,"b":1}}`, trial{op: "update", data: `{"b":2}`, unsent: []string{"a"}}, yes},
		{`{"$or":[{"a":1},{"b":1}]}`, trial{op: "update", data: `{"b":1}`, unsent: []string{"a"}}, yes},
		{`{"$or":[{"a":1},{"b":1}]}`, trial{op: "update", data: `{"b":2}`, unsent: []string{"a"}}, unknown},
		{`{"a":{"$or":[{"$exists":true},{"$eq":1}]}}`, trial{op: "update", unsent: []string{"a"}}, yes},
		{`{"a":{"$exists":true,"$gt":1}}`, trial{op: "update", unsent: []string{"a"}}, unknown},
		{`{"a":1}`, trial{op: "update", data: `{"a":1}`, unsent: []string{"a"}}, unknown},
		{`{"$before":{"a":1}}`, trial{op: "update", before: `{"a":1}`, unsentOld: []string{"a"}}, unknown},
		{`{"$before":{"a":{"$exists":true}}}`, trial{op: "update", unsentOld: []string{"a"}}, yes},
		{`{"$before":{"a":1}}`, trial{op: "delete", unsent: []string{"a"}}, unknown},
		{`{"$changed":["a"]}`, trial{op: "update", data: `{"a":1}`, unsentOld: []string{"a"}}, unknown},
		{`{"$before":{"a":{"$exists":true}}}`, trial{op: "update", before: `{"a":1}`, unsent: []string{"a"}}, yes},
		// What the log leaves out of an update is what the update left as it was.
		{`{"$changed":["a"]}`, trial{op: "update", before: `{"a":1}`, unsent: []string{"a"}}, no},
		{`{"$changed":["a.b"]}`, trial{op: "update", before: `{"a":1}`, unsent: []string{"a"}}, no},
		{`{"a":{"$from":1}}`, trial{op: "update", before: `{"a":1}`, unsent: []string{"a"}}, no},
		{`{"$changed":{"outside":["b"]}}`, trial{op: "update", data: `{"b":1}`, before: `{"a":1,"b":2}`, unsent: []string{"a"}}, no},
		// What it leaves out of an insert was not there before.
		{`{"$changed":["a"]}`, trial{op: "insert", unsent: []string{"a"}}, yes},
		{`{"$changed":["a.b"]}`, trial{op: "insert", unsent: []string{"a"}}, unknown},
		{`{"a":{"$to":1}}`, trial{op: "insert", unsent: []string{"a"}}, unknown},
		{`{"a":{"$from":1}}`, trial{op: "insert", unsent: []string{"a"}}, no},
		{`{"$changed":{"outside":["b"]}}`, trial{op: "insert", data: `{"b":1}`, unsent: []string{"a"}}, yes},
		{`{"$changed":{"outside":["a"]}}`, trial{op: "read", unsent: []string{"a"}}, no},
		{`{"$changed":["a.b"]}`, trial{op: "update", unsent: []string{"a"}, unsentOld: []string{"a"}}, unknown},
		{`{"$changed":["a","b"]}`, trial{op: "update", data: `{"b":1}`, before: `{"b":2}`, unsentOld: []string{"a"}}, yes},
		{`{"$changed":{"outside":["b"]}}`, trial{op: "update", data: `{"b":1}`, before: `{"b":2}`, unsentOld: []string{"a"}}, unknown},
		{`{"$changed":{"outside":["b"]}}`, trial{op: "update", data: `{"b":1,"c":1}`, before: `{"b":2}`, unsentOld: []string{"a"}}, yes},
		{`{"$changed":{"outside":["a"]}}`, trial{op: "update", data: `{"b":1}`, before: `{"b":1}`, unsentOld: []string{"a"}}, no},
		{`{"$changed":{"outside":["a.x"]}}`, trial{op: "update", unsentOld: []string{"a"}}, unknown},
		{`{"a":{"$from":1,"$to":2}}`, trial{op: "update", data: `{"a":2}`, unsentOld: []string{"a"}}, unknown},
		{`{"a":{"$from":1,"$to":2}}`, trial{op: "update", data: `{"a":3}`, unsentOld: []string{"a"}}, no},
		{`{"$op":"update","a":{"$exists":true}}`, trial{op: "update", unsent: []string{"a"}}, yes},
	},
}

// allRules returns every statement of both tables as one question each.
func allRules() []changeRule {
	var all []changeRule
	for _, group := range changeRules {
		all = append(all, group...)
	}
	for _, group := range operatorRules {
		for _, r := range group {
			for _, row := range r.yes {
				all = append(all, changeRule{r.filter, trial{op: "update", data: row, before: row}, yes})
			}
			for _, row := range r.no {
				all = append(all, changeRule{r.filter, trial{op: "update", data: row, before: row}, no})
			}
		}
	}
	for i := range all {
		if all[i].data == "" {
			all[i].data = "{}"
		}
		if all[i].before == "" {
			all[i].before = "{}"
		}
	}
	return all
}

func TestMatchFollowsTheRulesOfTheOperators(t *testing.T) {
	for _, r := range allRules() {
		event := r.event()
		require.Equal(t, r.want, compile(t, r.filter).MatchEvent(&event), "%s\n%s", r.filter, r.trial)
	}
}

func TestTheSlowMatcherFollowsTheRulesOfTheOperators(t *testing.T) {
	for _, r := range allRules() {
		require.Equal(t, r.want, slowFilter(t, r.slow(t), []byte(r.filter)), "%s\n%s", r.filter, r.trial)
	}
}

func TestPostgresSaysWhatTheOperatorsDo(t *testing.T) {
	db := newServer(t)
	all := allRules()
	var conditions []string
	var trials []trial
	for _, r := range all {
		conditions, trials = append(conditions, sqlTwin(t, r.filter)), append(trials, r.trial)
	}
	answers := <-askTwins(t, db, conditions, trials)
	require.NoError(t, answers.err)
	require.Greater(t, len(answers.verdicts), 250)
	for i, answer := range answers.verdicts {
		require.Equal(t, all[i].want, answer, "%s\n%s\n%s", all[i].filter, all[i].trial, conditions[i])
	}
}
