//! `halometer gateway` as a replica. With a store in memory it is the only one; what several do is in `tests/http/replicas.rs`.

use super::gateway::{COST, House, ask, call, free_port, sum, until};
use super::wallet::RUNTIME;
use super::{code, halometer, said};

#[test]
fn a_replica_leads_sells_drains_and_leaves() {
    let house = House::new();
    let port = free_port();
    house.edit(|text| {
        let cluster = format!("\n[cluster]\nlisten = \"127.0.0.1:{port}\"\nnotice_seconds = 2\n");
        text.replace("[store]", "[store]\nkind = \"memory\"") + &cluster
    });
    let mut gateway = house.start();
    until("it is ready", || (gateway.admin("/readyz").0 == 200).then_some(()));
    let payer = gateway.payer_at(gateway.id());
    assert_eq!(RUNTIME.block_on(call(&payer)), Some(COST));
    let status = until("counted", || Some(gateway.status()).filter(|status| sum(status, "charged") == COST));
    let replicas = &status["replicas"];
    assert_eq!((&replicas["leads"], &replicas["leader"]), (&true.into(), &replicas["own"]));
    assert_eq!(replicas["replicas"][0]["address"], format!("127.0.0.1:{port}"));
    assert_eq!(replicas["replicas"].as_array().unwrap().len(), 1);
    assert!(gateway.admin("/metrics").1.contains("halometer_leads 1"));
    assert!(gateway.admin("/").1.contains("leads"));
    // Prices are published in the book first, and gone over to from there.
    let serial = || gateway.directory().verify(&gateway.root()).unwrap().parts().serial;
    let before = serial();
    house.edit(|text| text.replace("output_token = { credits = 8 }", "output_token = { credits = 9 }"));
    gateway.signal("-HUP");
    until("the next directory", || (serial() > before).then_some(()));
    RUNTIME.block_on(payer.shutdown());
    // Told to end it is not ready, and takes calls still until that is noticed.
    let (ready, paid) = (format!("{}/readyz", gateway.told("admin_url")), format!("{}/v1/models", house.url()));
    let asked =
        std::thread::spawn(move || until("it drains", || (ask(&ready, None).0 == 503).then(|| ask(&paid, None).0)));
    assert_eq!(gateway.end(), 0);
    assert_eq!(asked.join().unwrap(), 402);
    assert!(gateway.log().contains("this replica leads"), "{}", gateway.log());
}

#[test]
fn a_store_of_one_process_has_no_replicas() {
    let house = House::new();
    for (cluster, told) in
        [("listen = \"127.0.0.1:0\"", "belongs to one"), ("listen = \"0.0.0.0:8402\"", "belongs to one")]
    {
        let text = std::fs::read_to_string(house.config()).unwrap();
        let other = house.path("shop/other.toml");
        std::fs::write(&other, format!("{text}\n[cluster]\n{cluster}\n")).unwrap();
        let checked = halometer(&["gateway", "--check", "--config", &other]);
        assert!(code(&checked) == 2 && said(&checked).contains(told), "{checked:?}");
        std::fs::write(
            &other,
            format!("{text}\n[cluster]\n{cluster}\n").replace("[store]", "[store]\nkind = \"memory\""),
        )
        .unwrap();
        let checked = halometer(&["gateway", "--check", "--config", &other]);
        let nowhere = cluster.contains("0.0.0.0");
        assert_eq!(
            (code(&checked) == 2, said(&checked).contains("cluster.address")),
            (nowhere, nowhere),
            "{checked:?}"
        );
    }
}
