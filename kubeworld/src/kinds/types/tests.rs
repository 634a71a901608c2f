use super::types;

#[test]
fn the_table_is_read() {
    assert!(types().kinds.contains_key(&("apps", "v1", "Deployment")));
    assert!(types().structs.iter().all(|one| one.fields.iter().all(|field| !field.name.is_empty())));
}
