use std::os::unix::fs::PermissionsExt as _;

use super::*;
use build::required_version;

/// A program that answers the question for its version.
fn program(dir: &Path, name: &str, says: &str) {
    std::fs::create_dir_all(dir).unwrap();
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn programs(dir: &Path, without: &[&str]) {
    for name in PROGRAMS.into_iter().filter(|name| !without.contains(name)) {
        program(dir, name, "v1.37.2");
    }
}

#[test]
fn versions_are_read_as_each_program_says_them() {
    for (text, expected) in [
        ("Kubernetes v1.37.2", Some((1, 37))),
        ("Client Version: v1.29.14\nKustomize Version: v5.8.1", Some((1, 29))),
        ("etcd Version: 3.7.3\nGit SHA: Not provided (use ./build instead of go build)", Some((3, 7))),
        ("kwok version v0.8.0 go1.26.8 (linux/amd64)", Some((0, 8))),
        ("Kubernetes v1.38.0-alpha.1", Some((1, 38))),
        ("Kubernetes v0.0.0-master+$Format:%H$", Some((0, 0))),
        ("usage: kwok", None),
        ("", None),
    ] {
        assert_eq!(version(text), expected, "{text}");
    }
    assert!(check_version("kube-apiserver", "Kubernetes v1.33.0").is_ok());
    assert!(check_version("kube-apiserver", "Kubernetes v1.32.9").is_err());
    assert!(check_version("kube-apiserver", "Kubernetes v0.0.0-master+$Format:%H$").is_err());
    assert!(check_version("kwok", "kwok version v0.8.0 go1.26.8 (linux/amd64)").is_ok());
    assert!(check_version("etcd", "no").is_err());
}

#[test]
fn the_version_comes_from_go_mod() {
    let text = "module m\n\nrequire k8s.io/kubernetes v1.37.2\n\nrequire (\n\tk8s.io/api v0.37.2\n)\n";
    let flags = MODULES[0].flags().unwrap().join(" ");
    let real = std::fs::read_to_string(MODULES[0].dir().join("go.mod")).unwrap();
    assert!(required_version(text, "k8s.io/kubernetes").is_some());
    assert!(required_version(text, "k8s.io/api").is_some());
    assert!(required_version("replace k8s.io/kubernetes => ../k", "k8s.io/kubernetes").is_none());
    assert!(required_version("require k8s.io/kubernetes v1", "k8s.io/kubernetes").is_none());
    let pinned = real.lines().find_map(|line| line.strip_prefix("require k8s.io/kubernetes ")).unwrap();
    assert!(flags.contains(&format!("version.gitVersion={pinned} ")), "{flags}");
    assert!(flags.contains("version.gitMajor=1 ") && flags.contains("version.gitMinor="), "{flags}");
}

#[test]
fn a_complete_given_directory_is_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let given = dir.path().join("given");
    programs(&given, &[]);
    let assets = provide_from(Some(&given), &dir.path().join("cache"), None, &[]).unwrap().0;
    assert_eq!(assets.dir(), given);
}

#[test]
fn what_the_given_directory_lacks_comes_from_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let given = dir.path().join("given");
    programs(&given, &["kwok", "kube-controller-manager", "kubectl"]);
    program(&given, "kubectl", "Client Version: v1.20.0");
    let root = dir.path().join("cache");
    let cache = root.join(format!("{}-go1.0", inputs().unwrap()));
    programs(&cache, &["etcd"]);
    // A cache of other pins is not looked at.
    programs(&root.join("0123456789abcdef-go9.9"), &[]);

    let assets = provide_from(Some(&given), &root, None, &[]).unwrap().0;
    let origin = |name: &str| std::fs::canonicalize(assets.program(name)).unwrap();
    assert_eq!(origin("etcd"), given.join("etcd"));
    assert_eq!(origin("kube-apiserver"), given.join("kube-apiserver"));
    assert_eq!(origin("kwok"), cache.join("kwok"));
    assert_eq!(origin("kubectl"), cache.join("kubectl"), "too old in the given directory");
    assert_eq!(provide_from(Some(&given), &root, None, &[]).unwrap().0, assets);
}

#[test]
fn without_go_the_missing_ones_and_both_ways_out_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let given = dir.path().join("given");
    programs(&given, &["kwok"]);
    let error = provide_from(Some(&given), &dir.path().join("cache"), None, &[]).unwrap_err().to_string();
    assert!(error.starts_with("kwok is missing, "), "{error}");
    assert!(error.contains("install Go") && error.contains("KUBEBUILDER_ASSETS"), "{error}");
    let error = provide_from(None, &dir.path().join("cache"), None, &[]).unwrap_err().to_string();
    assert!(error.starts_with("kube-apiserver, kube-controller-manager, etcd, kwok, kubectl are missing"), "{error}");
}

#[test]
fn clients_are_taken_from_the_cache_and_named_where_they_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let given = dir.path().join("given");
    programs(&given, &[]);
    let root = dir.path().join("cache");
    let (assets, missing) = provide_from(Some(&given), &root, None, &CLIENTS).unwrap();
    assert_eq!((assets.dir(), missing.as_slice()), (given.as_path(), CLIENTS.as_slice()));

    program(&root.join(format!("{}-go1.0", inputs().unwrap())), "helm", "v3");
    let (assets, missing) = provide_from(Some(&given), &root, None, &CLIENTS).unwrap();
    assert_eq!(missing, ["kubectl-1.29", "kubectl-1.33"]);
    let origin = |name: &str| std::fs::canonicalize(assets.program(name)).unwrap();
    assert!(origin("helm").starts_with(&root));
    assert_eq!(origin("kubectl"), given.join("kubectl"));
}

#[test]
fn each_client_comes_of_a_module() {
    for name in CLIENTS {
        assert!(MODULES.iter().any(|module| module.dir().ends_with(name)), "{name}");
    }
}
