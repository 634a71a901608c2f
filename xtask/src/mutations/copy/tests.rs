use super::*;

const MANIFEST: &str = "\
[workspace]
members = [\"one\"]

[workspace.package]
version = \"0.1.0\"
edition = \"2024\"

[workspace.dependencies]
version = \"9\"
";

#[test]
fn crates_of_the_copy_have_another_version() {
    let manifest = MANIFEST.replace("version = \"0.1.0\"", "version = \"0.0.0-mutant\"");
    assert_eq!(disguised_manifest(MANIFEST).unwrap(), manifest);
    assert!(disguised_manifest("[package]\nversion = \"1\"\n").is_err());

    let lock = "\
# made by cargo
version = 4

[[package]]
name = \"bytes\"
version = \"1.12.0\"
source = \"registry+https://github.com/rust-lang/crates.io-index\"

[[package]]
name = \"one\"
version = \"0.1.0\"
dependencies = [
 \"bytes\",
]
";
    let expected = lock.replace("version = \"0.1.0\"", "version = \"0.0.0-mutant\"");
    assert_eq!(disguised_lock(lock), expected);
}

/// A workspace, and a directory for its copy.
fn places() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    fs::create_dir_all(from.join("src")).unwrap();
    fs::write(from.join("Cargo.toml"), MANIFEST).unwrap();
    fs::write(from.join("src/lib.rs"), "right\n").unwrap();
    (directory, from, to)
}

fn files(names: &[&str]) -> BTreeSet<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

const FAULT: &str = "\
Fault: wrong.

diff --git a/src/lib.rs b/src/lib.rs
--- a/src/lib.rs
+++ b/src/lib.rs
@@ -1 +1 @@
-right
+wrong
";

#[test]
fn a_fault_is_put_in_and_taken_out() {
    let (directory, from, to) = places();
    let patch = directory.path().join("a.patch");
    fs::write(&patch, FAULT).unwrap();
    let all = files(&["Cargo.toml", "src/lib.rs"]);
    refresh(&from, &all, &to).unwrap();
    let written = |name: &str| to.join(name).metadata().unwrap().modified().unwrap();
    let before = written("Cargo.toml");

    assert_eq!(apply(&to, &patch, &[]).unwrap(), Applies::Yes);
    assert_eq!(fs::read_to_string(to.join("src/lib.rs")).unwrap(), "wrong\n");
    let Applies::No(why) = apply(&to, &patch, &[]).unwrap() else { panic!("it applies twice") };
    assert!(why.contains("src/lib.rs"), "{why}");

    refresh(&from, &all, &to).unwrap();
    assert_eq!(fs::read_to_string(to.join("src/lib.rs")).unwrap(), "right\n");
    assert_eq!(written("Cargo.toml"), before, "what was equal is not written");
}

#[test]
fn the_copy_holds_no_other_files() {
    let (_directory, from, to) = places();
    fs::write(from.join("src/old.rs"), "").unwrap();
    std::os::unix::fs::symlink("lib.rs", from.join("src/link.rs")).unwrap();
    let all = files(&["Cargo.toml", "src/lib.rs", "src/old.rs", "src/link.rs"]);
    refresh(&from, &all, &to).unwrap();
    assert!(to.join("src/old.rs").exists() && !to.join("src/link.rs").exists());

    fs::remove_file(from.join("src/old.rs")).unwrap();
    refresh(&from, &all, &to).unwrap();
    assert!(!to.join("src/old.rs").exists(), "deleted from the working tree");
    refresh(&from, &files(&["Cargo.toml"]), &to).unwrap();
    assert!(!to.join("src/lib.rs").exists(), "not listed any more");
}

#[test]
fn a_fault_applies_below_the_root_of_a_repository() {
    let (directory, from, to) = places();
    let patch = directory.path().join("a.patch");
    fs::write(&patch, FAULT).unwrap();
    let made = Command::new("git").args(["init", "--quiet"]).arg(directory.path()).status().unwrap();
    assert!(made.success());
    refresh(&from, &files(&["Cargo.toml", "src/lib.rs"]), &to).unwrap();
    assert_eq!(apply(&to, &patch, &[]).unwrap(), Applies::Yes);
    assert_eq!(fs::read_to_string(to.join("src/lib.rs")).unwrap(), "wrong\n");
}

#[test]
fn new_files_are_listed_and_ignored_ones_are_not() {
    let (_directory, from, _to) = places();
    let made = Command::new("git").args(["init", "--quiet"]).arg(&from).status().unwrap();
    assert!(made.success());
    fs::write(from.join(".gitignore"), "/target\n").unwrap();
    fs::create_dir(from.join("target")).unwrap();
    fs::write(from.join("target/x"), "").unwrap();
    assert_eq!(listed(&from).unwrap(), files(&[".gitignore", "Cargo.toml", "src/lib.rs"]));
}

#[test]
fn two_runs_do_not_share_a_copy() {
    let (directory, from, _to) = places();
    let first = Copy::open(from.clone(), directory.path()).unwrap();
    let error = Copy::open(from.clone(), directory.path()).err().unwrap().to_string();
    assert!(error.contains("another"), "{error}");
    drop(first);
    assert!(Copy::open(from, directory.path()).is_ok());
}
