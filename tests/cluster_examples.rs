//! The configurations in `examples/cluster` are of the form that their programs read.

#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use yaml_rust2::{Yaml, YamlLoader};

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cluster").join(name)).unwrap()
}

/// The documents of the manifest, by their kinds.
fn manifest() -> BTreeMap<String, Yaml> {
    let documents = YamlLoader::load_from_str(&read("kubernetes/gateway.yaml")).unwrap();
    let kind = |document: Yaml| (document["kind"].as_str().expect("a kind").to_owned(), document);
    documents.into_iter().map(kind).collect()
}

#[test]
fn the_manifest_is_yaml_and_its_parts_fit_each_other() {
    let manifest = manifest();
    for (kind, document) in &manifest {
        assert!(document["apiVersion"].as_str().is_some() && document["metadata"]["name"].as_str().is_some(), "{kind}");
    }
    let kinds: Vec<_> = manifest.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"]);
    let pod = &manifest["Deployment"]["spec"]["template"];
    let labels = &manifest["Deployment"]["spec"]["selector"]["matchLabels"];
    assert_eq!(labels, &pod["metadata"]["labels"]);
    assert_eq!(labels, &manifest["Service"]["spec"]["selector"]);
    assert_eq!(labels, &manifest["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]);
    let container = &pod["spec"]["containers"][0];
    let ports: BTreeMap<_, _> = container["ports"]
        .as_vec()
        .unwrap()
        .iter()
        .map(|port| (port["name"].as_str().unwrap(), port["containerPort"].as_i64().unwrap()))
        .collect();
    assert_eq!(ports, BTreeMap::from([("callers", 8_400), ("operator", 8_401), ("replicas", 8_402)]));
    for (probe, path) in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let get = &container[probe]["httpGet"];
        assert_eq!((get["path"].as_str(), get["port"].as_str()), (Some(path), Some("operator")), "{probe}");
    }
    let mounted = |mounts: &Yaml| -> Vec<String> {
        mounts.as_vec().unwrap().iter().map(|mount| mount["name"].as_str().unwrap().to_owned()).collect()
    };
    let volumes = mounted(&pod["spec"]["volumes"]);
    let init = &pod["spec"]["initContainers"][0]["volumeMounts"];
    for mount in mounted(&container["volumeMounts"]).into_iter().chain(mounted(init)) {
        assert!(volumes.contains(&mount), "{mount}");
    }
}

#[test]
fn the_pod_lives_longer_than_what_it_drains() {
    let manifest = manifest();
    let text = manifest["ConfigMap"]["data"]["gateway.toml"].as_str().unwrap().to_owned();
    let number = |key: &str| -> i64 {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("{key}"));
        line.trim_start_matches([' ', '=']).parse().unwrap()
    };
    let grace = manifest["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap();
    assert!(grace > number("shutdown_seconds") + number("notice_seconds"), "{grace}");
    let probe = &manifest["Deployment"]["spec"]["template"]["spec"]["containers"][0]["readinessProbe"];
    let noticed = probe["periodSeconds"].as_i64().unwrap() * probe["failureThreshold"].as_i64().unwrap();
    assert!(number("notice_seconds") > noticed, "{noticed}");
}

#[test]
fn units_have_sections_and_settings_and_no_more() {
    for name in ["systemd/halometer@.service", "systemd/halometer.target"] {
        let mut sections = Vec::new();
        for line in read(name).lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                Some(section) => sections.push(section.to_owned()),
                None => {
                    let (key, _) = line.split_once('=').unwrap_or_else(|| panic!("{name}: {line}"));
                    assert!(!sections.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{line}");
                }
            }
        }
        assert_eq!((sections.first().unwrap().as_str(), sections.last().unwrap().as_str()), ("Unit", "Install"));
    }
}

#[test]
fn balancers_never_go_where_gateways_meet() {
    let nginx = read("nginx.conf");
    let code: String = nginx.lines().map(|line| line.split('#').next().unwrap_or_default()).collect();
    assert_eq!(code.matches('{').count(), code.matches('}').count());
    for text in [nginx, read("haproxy.cfg")] {
        let settings = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        assert!(settings.clone().any(|line| line.contains(":8400")));
        assert!(!settings.clone().any(|line| line.contains("8402")));
    }
}
