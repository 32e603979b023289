// Package filters compiles and evaluates subscription filters over JSON documents.
//
// A filter is a JSON object. One without operators matches a document exactly when
// Postgres would say
//
//	document::jsonb @> filter::jsonb
//
// Every key of the filter must be in the document, at the same level, with a value
// that contains the filter's. An array in a filter is a set: each of its elements
// must be contained in some element of the document's array. Numbers are compared as
// exact decimals, strings by their bytes after unescaping, nothing is ever coerced,
// null is not the same as missing, and of repeated keys in a document the last one
// counts.
//
// # Operators
//
// Keys that begin with a dollar sign are operators, and Compile refuses those it does
// not know; "$$key" stands for the literal key "$key". Documents need no such care. An
// object whose keys are all operators stands where a value may stand, and all it says
// must hold of that value:
//
//	{"total": {"$gte": 10, "$lt": 100}, "sku": {"$prefix": "A-"}}
//
// About one value:
//
//	$eq $ne                     any value, compared as a whole: {"tags": {"$eq": []}} is exactly empty
//	$gt $gte $lt $lte           a number, compared with numbers, or a string, with strings by bytes
//	$in $nin                    a list of scalars, compared with a scalar
//	$prefix $suffix $contains   a string that is not empty, compared with strings
//	$exists                     true or false
//
// $neq, $exist, $startsWith and $endsWith are other names of $ne, $exists, $prefix and
// $suffix. No operator looks into an array: write {"tags": [{"$prefix": "x"}]} for an
// element. A missing value satisfies none of them, not even $ne and $nin; a value of
// another kind than the operand satisfies no comparison of order or text. Only
// "$exists": false and $not see that something is missing.
//
// $and, $or (lists of filters) and $not (one) stand in any object, beside keys or
// operators, and are about the value that the object is about. An object that has a
// plain key, or is empty, asks for an object: {"a": {"b": {"$exists": false}}} does not
// match where a is missing.
//
// # Changes
//
// A filter may also ask how a row came about. At the top level, in logic too, stand
//
//	$op        an operation or a list of them: insert, update, delete, truncate, read
//	$changed   a list of paths, any of which differs between the rows: "status", "owner.plan",
//	           or as a JSON Pointer "/owner/plan"; also {"outside": [...]}: something else differs
//	$before    a filter on the row before, without change conditions
//
// and at any path of keys, outside of $before, {"status": {"$from": "open", "$to":
// "paid"}}: the old value contains the one, the new value the other, and they differ;
// either may be left out.
//
// Of an insert or read every old value is missing, so that $changed and $to may hold, and
// $from and $before do not. Of a delete, plain keys and $before are about the deleted
// row, and $changed, $from and $to are No. A truncate has no rows. A path names keys of
// objects; one in a list of $changed may also name elements of an array, as in
// "items.0.sku". In a path a dollar is just a dollar.
//
// # Answers
//
// A filter is compiled once, when a subscription is saved, and evaluated many times.
// Compile reports every mistake; Match cannot fail: it answers Yes, No or Unknown, the
// last when a value it needs was not sent. Only Yes may deliver. Logic goes by No <
// Unknown < Yes: all is the least, any the greatest, and not swaps No and Yes. Of a
// column that was not sent $exists is known nevertheless, as it is there.
//
// Conditions on a change are Unknown when the operation or the row before is not known,
// unless a part of them that is known already says No.
//
// # Limits
//
// A filter has at most [MaxText] bytes, as written and in canonical form, [MaxDepth]
// levels, [MaxLeaves] values and keys of [MaxKey] bytes; a list of $in, $nin or $changed
// has at most [MaxList] entries and a path [MaxSegments] keys. With every $or multiplied
// out it may match in at most [MaxAlternatives] ways, where $in and $not count once.
//
// # Many filters
//
// An [Index] keeps filters by event type and owner and finds those that match an event
// without asking the others. It may be changed at any time while any number of goroutines
// match; they never wait, and the answer for a filter that was there all the time is that
// of MatchEvent.
//
// # Documents that jsonb would refuse
//
// A document that is not JSON text in UTF-8, or is nested more than [MaxDocDepth]
// deep, matches nothing, not even {}. A json column may however hold well-formed
// values that jsonb cannot: a string with \u0000 or half a surrogate pair, or a number
// of a million digits. Such a value equals no filter value, and the rest of the
// document matches as usual.
//
// # Cost
//
// Matching reads a row once, and an array that the filter asks about once more. Arrays
// and objects inside arrays are the expensive case: every one of the filter's may have to
// be compared with every element of the document's, as in Postgres. The bytes visited are
// therefore counted, and a match that has visited ten times the rows and another 256 KiB
// stops and answers Unknown: not No, so that a negation cannot turn it into Yes. In an
// [Index] the filters that need much work besides share what one event may cost, so that
// they hold up each other and nobody else: those that it does not reach are Unknown.
package filters
