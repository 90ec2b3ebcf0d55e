"""The dashboard holds together: what Grafana needs of each panel is there."""
import watched

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panels():
    return watched.dashboard()["panels"]


def test_the_data_source_is_chosen_by_a_variable():
    variables = {variable["name"]: variable for variable in watched.dashboard()["templating"]["list"]}
    assert list(variables) == ["datasource", "namespace", "job"]
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    for name in ("namespace", "job"):
        assert variables[name]["datasource"] == SOURCE
        assert variables[name]["multi"] and variables[name]["includeAll"]
        assert variables[name]["query"]["query"].startswith("label_values(sluice_build_info")


def test_every_panel_has_a_unit_and_targets_of_that_source():
    for panel in panels():
        assert panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == SOURCE
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert target["datasource"] == SOURCE
            assert target["expr"] and "legendFormat" in target


def test_every_expression_is_of_the_namespace_and_the_job_that_were_chosen():
    for panel in panels():
        for target in panel.get("targets", []):
            chosen = target["expr"].count('namespace=~"$namespace", job=~"$job"')
            assert chosen == target["expr"].count("{") >= 1, panel["title"]


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in panels():
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
