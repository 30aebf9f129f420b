// The rule of `paretoformer select` (search/select.py, search/infeasible.py): tests hold the two against each other
// over many limits. A bound is {name, atMost, answers}; null costs are infinite.
"use strict";

const costOf = (member, bound) => member.rule.costs[bound.name] ?? Infinity;

function within(pool, bounds) {
  const onSearch = ({ rule }, bound) =>
    !bound.answers || !rule.search || (rule.search[bound.name] ?? Infinity) <= bound.atMost;
  const once = pool.filter((member) => bounds.every((bound) => costOf(member, bound) <= bound.atMost));
  const twice = once.filter((member) => bounds.every((bound) => onSearch(member, bound)));
  return twice.length ? twice : once;
}

function preference(bounds) {
  if (!bounds.length) return "knee";
  const limited = bounds.map((bound) => (bound.answers ? "accuracy" : bound.name.split("@")[0]));
  return ["accuracy", "latency", "size"].find((objective) => !limited.includes(objective)) ?? "latency";
}

function first(members, order) {
  const before = (a, b) => {
    const at = a.findIndex((value, place) => value !== b[place]);
    return at >= 0 && a[at] < b[at];
  };
  return members.reduce((best, member) => (before(order(member), order(best)) ? member : best));
}

function best(members, prefer, kneeDepth) {
  if (prefer === "knee") {
    const scaled = (values) => {
      const low = Math.min(...values),
        range = Math.max(...values) - low || 1;
      return values.map((value) => (value - low) / range);
    };
    const top = Math.max(...members.map(({ rule }) => rule.accuracy));
    const lost = members.map(({ rule }) => Math.min((top - rule.accuracy) / kneeDepth, 1));
    const slow = scaled(members.map(({ rule }) => Math.log(rule.latency)));
    const large = scaled(members.map(({ rule }) => Math.log(rule.size)));
    const far = new Map(members.map((member, i) => [member, Math.hypot(lost[i], slow[i], large[i])]));
    return first(members, (member) => [far.get(member), member.key]);
  }
  return first(
    members,
    ({ rule, key }) =>
      ({
        accuracy: [-rule.accuracy, rule.latency, rule.size, key],
        latency: [rule.latency, rule.drop, rule.size, key],
        size: [rule.size, rule.drop, rule.latency, key],
      })[prefer],
  );
}

/** The member that `select` answers with, or null where nothing meets the bounds. */
function pick(pool, bounds, prefer, kneeDepth) {
  const left = within(pool, bounds);
  return left.length ? best(left, prefer || preference(bounds), kneeDepth) : null;
}

/** What would have to give where nothing fits: ways of relaxing one bound, the least change first, or several. */
function reliefs(pool, bounds) {
  const excess = (member, bound) => (costOf(member, bound) - bound.atMost) / (Math.abs(bound.atMost) || 1);
  const to = (member, bound) => ({ bound, value: costOf(member, bound) });
  const alone = bounds.flatMap((bound) => {
    const rest = pool.filter((member) =>
      bounds.every((other) => other === bound || costOf(member, other) <= other.atMost),
    );
    if (!rest.length) return [];
    const nearest = first(rest, (member) => [costOf(member, bound), member.key]);
    return [{ member: nearest, excess: excess(nearest, bound), changes: [to(nearest, bound)] }];
  });
  if (alone.length) return alone.sort((a, b) => a.excess - b.excess);
  const member = first(pool, (each) => [Math.max(...bounds.map((bound) => excess(each, bound))), each.key]);
  return [{ member, changes: bounds.filter((bound) => excess(member, bound) > 0).map((bound) => to(member, bound)) }];
}
