"""rustc: a compiler of many threads on LLVM; the same program to the byte, which does what it should."""

import hashlib

from support import ProgramTest, main

SOURCE = r"""
use std::collections::{BTreeMap, HashMap};
use std::sync::{mpsc, Arc, Mutex};
use std::thread;

#[derive(Debug, Clone)]
enum Tree { Leaf(u64), Node(Box<Tree>, Box<Tree>, String) }

fn grow(depth: u32, seed: u64) -> Tree {
    if depth == 0 { return Tree::Leaf(seed); }
    Tree::Node(Box::new(grow(depth - 1, seed * 2)), Box::new(grow(depth - 1, seed * 2 + 1)), "n".repeat((seed % 50) as usize))
}
fn sum(tree: &Tree) -> u64 {
    match tree { Tree::Leaf(n) => *n, Tree::Node(a, b, s) => sum(a).wrapping_mul(31).wrapping_add(sum(b)) + s.len() as u64 }
}
fn main() {
    let shared = Arc::new(Mutex::new(BTreeMap::new()));
    let (sender, receiver) = mpsc::channel::<(u64, Vec<Tree>)>();
    let threads: Vec<_> = (0..6u64).map(|n| {
        let (shared, sender) = (shared.clone(), sender.clone());
        thread::spawn(move || {
            for i in 0..20 {
                let tree = grow(10, n * 100 + i);
                shared.lock().unwrap().insert((n, i), sum(&tree));
                sender.send((n, vec![tree.clone(), tree])).unwrap();
            }
        })
    }).collect();
    drop(sender);
    let mut words: HashMap<String, u64> = HashMap::new();
    for (n, trees) in receiver { *words.entry(format!("thread {}", n)).or_default() += trees.iter().map(sum).fold(0, |a, b| a ^ b) + 1; }
    for t in threads { t.join().unwrap(); }
    let mut all: Vec<_> = words.into_iter().collect();
    all.sort();
    println!("{:?} {}", all, shared.lock().unwrap().values().fold(0u64, |a, b| a.wrapping_mul(31).wrapping_add(*b)));
    println!("{}", std::panic::catch_unwind(|| { let v: Vec<u8> = Vec::new(); v[std::env::args().count()] }).is_err());
}
"""


class Rustc(ProgramTest):
    needs = ("rustc", "cc")
    # What LLVM's wrapper got from new[], its Rust side gives to free.
    mistakes = r"arenal: free\(\w+\): the block came from operator new\[\]"

    def work(self, run):
        run.write("main.rs", SOURCE)
        output = run.commands(["rustc", "-O", "-C", "codegen-units=4", "--remap-path-prefix",
                               f"{run.folder}=/somewhere", "main.rs"], ["./main"])
        run.assert_loads("./main")
        return output + hashlib.sha256(run.read("main")).hexdigest()


if __name__ == "__main__":
    main()
