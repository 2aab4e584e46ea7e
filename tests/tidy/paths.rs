//! Which modules the files of `src/` name, and the circles that they make.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A path in code with its line: `crate::broker::Order` is `["crate", "broker", "Order"]`.
pub type Path = (usize, Vec<String>);

/// All paths that begin with `crate`, `super` or `self`, and those of `use` lines; those in braces one by one.
pub fn named<'a>(code: impl Iterator<Item = (usize, &'a str)>) -> Vec<Path> {
    let (mut text, mut lines) = (String::new(), Vec::new());
    for (number, line) in code {
        lines.push((text.len(), number));
        text.push_str(line);
        text.push('\n');
    }
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    for word in ["crate::", "super::", "self::", "use "] {
        for (at, _) in text.match_indices(word) {
            let start = if word == "use " { at + word.len() } else { at };
            let relative = ["crate::", "super::", "self::"].iter();
            let is_counted_elsewhere =
                word == "use " && relative.clone().any(|word| text[start..].starts_with(word));
            if text[..at].ends_with(is_part) || is_counted_elsewhere {
                continue;
            }
            let line = lines.partition_point(|(begin, _)| *begin <= at);
            let mut paths = Vec::new();
            expand(&text[start..], Vec::new(), &mut paths);
            found.extend(paths.into_iter().map(|path| (lines[line - 1].1, path)));
        }
    }
    found
}

/// Reads one path; returns what follows it.
fn expand<'a>(mut rest: &'a str, mut path: Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    loop {
        rest = rest.trim_start();
        if let Some(list) = rest.strip_prefix('{') {
            return expand_list(list, &path, found);
        }
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
        if !name.is_empty() {
            path.push(name.to_owned());
        }
        match after.trim_start().strip_prefix("::") {
            Some(after) if !name.is_empty() => rest = after,
            _ => {
                found.push(path);
                return after;
            }
        }
    }
}

/// Reads what stands in braces behind a path; returns what follows the closing one.
fn expand_list<'a>(mut rest: &'a str, path: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',' || c == '*');
        if rest.is_empty() {
            return rest;
        }
        if let Some(after) = rest.strip_prefix('}') {
            return after;
        }
        rest = expand(rest, path.to_vec(), found);
        // What it is called here is of no matter.
        if let Some(alias) = rest.trim_start().strip_prefix("as ") {
            rest = alias.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
        }
    }
}

type Module = Vec<String>;

/// The modules of a crate, and what each names.
#[derive(Default)]
pub struct Tree {
    named: BTreeMap<Module, Vec<Vec<String>>>,
}

impl Tree {
    /// Adds a file of `src/`.
    pub fn add(&mut self, path: &str, paths: Vec<Path>) {
        let module = path.trim_start_matches("src/").trim_end_matches(".rs");
        let module = module.trim_end_matches("/mod").split('/');
        let module = module.filter(|name| *name != "lib").map(str::to_owned).collect();
        let named = paths.into_iter().map(|(_, path)| path);
        self.named.insert(module, named.collect());
    }

    /// The module of which this path names something; what one module hands on from another is the other's.
    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<Module> {
        let mut at: Module = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => from.to_vec(),
            child => {
                let child = [from, &[child.to_owned()]].concat();
                self.named.contains_key(&child).then(|| from.to_vec())?
            }
        };
        for (place, name) in path.iter().enumerate() {
            if name == "super" {
                at.pop();
                continue;
            }
            if place == 0 && (name == "crate" || name == "self") {
                continue;
            }
            at.push(name.clone());
            if !self.named.contains_key(&at) {
                at.pop();
                return Some(self.handed_on(&at, name, depth).unwrap_or(at));
            }
        }
        Some(at)
    }

    /// Where a name comes from that this module has from another.
    fn handed_on(&self, module: &Module, name: &str, depth: usize) -> Option<Module> {
        const DEPTH_MAX: usize = 8;
        let from_elsewhere =
            |path: &&Vec<String>| path.len() > 1 && path.last().is_some_and(|last| last == name);
        let mut paths = self.named.get(module)?.iter().filter(from_elsewhere);
        paths.find_map(|path| {
            let source = (depth < DEPTH_MAX).then(|| self.resolve(module, path, depth + 1))??;
            (source != *module).then_some(source)
        })
    }

    /// Which modules each one names, but for those that it is a part of.
    fn arrows(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let of = |(module, paths): (&'_ Module, &Vec<Vec<String>>)| {
            let named = paths.iter().filter_map(|path| self.resolve(module, path, 0));
            named.filter(|named| !module.starts_with(named)).collect()
        };
        self.named.iter().map(|entry| (entry.0, of(entry))).collect()
    }

    /// For each module that leads back to itself the shortest way there, each circle once.
    pub fn circles(&self) -> Vec<String> {
        let arrows = self.arrows();
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        for start in arrows.keys().copied() {
            let Some(circle) = shortest_circle(&arrows, start) else {
                continue;
            };
            let members: BTreeSet<&Module> = circle.iter().collect();
            if seen.insert(members.into_iter().cloned().collect::<Vec<_>>()) {
                let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
                found.push(names.join(" -> "));
            }
        }
        found
    }
}

fn shortest_circle(arrows: &BTreeMap<&Module, BTreeSet<Module>>, start: &Module) -> Option<Vec<Module>> {
    let mut ways = VecDeque::from([vec![start.clone()]]);
    let mut reached = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in arrows.get(way.last()?).into_iter().flatten() {
            let longer = [&way[..], std::slice::from_ref(next)].concat();
            if next == start {
                return Some(longer);
            }
            if reached.insert(next.clone()) {
                ways.push_back(longer);
            }
        }
    }
    None
}

fn tree(files: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::default();
    for (path, text) in files {
        tree.add(path, named(text.lines().enumerate()));
    }
    tree
}

#[test]
fn paths_in_braces_are_seen_one_by_one() {
    let code = "use crate::{a::{self, B as C}, d};\nlet x = super::e::f(crate::g::H::<u8>::new());";
    let found = named(code.lines().enumerate());
    let mut found: Vec<String> = found
        .iter()
        .map(|(line, path)| format!("{line} {}", path.join("::")))
        .collect();
    found.sort();
    let expected = [
        "0 crate::a::B",
        "0 crate::a::self",
        "0 crate::d",
        "1 crate::g::H",
        "1 super::e::f",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_circle_is_seen_through_what_a_parent_hands_on() {
    let circle = tree(&[
        ("src/lib.rs", ""),
        ("src/a/mod.rs", "mod b;\nmod c;\npub use b::B;\n"),
        ("src/a/b.rs", "use super::c;\n"),
        ("src/a/c.rs", "use crate::a::B;\n"),
    ]);
    assert_eq!(circle.circles(), ["a::b -> a::c -> a::b"]);
    let none = tree(&[
        ("src/lib.rs", ""),
        ("src/a/mod.rs", "mod b;\nmod c;\npub use b::B;\npub struct A;\n"),
        ("src/a/b.rs", "use super::{A, c};\n"),
        ("src/a/c.rs", "use crate::a::A;\n"),
    ]);
    assert_eq!(none.circles(), [""; 0]);
}
