//! That it can be read and used: by keyboard, on a phone, in dark and light.

use super::*;

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn everything_is_reached_with_the_keyboard_and_the_focus_is_seen() {
    // Without sweeps, so that there is no moment with nobody between two holders, which would be a
    // bar of its own.
    let app = TestApp::start_with(|settings| {
        settings.failover.census_interval = Duration::from_millis(100);
        without_sweeps(settings);
    })
    .await;
    let browser = Browser::start().await;
    app.pair("pump").await;
    browser.go(&app.url).await;
    browser.shows(".groups tbody tr", "pump t / n Fine").await;
    browser.shows(".namespaces li", "t / n 1 group").await;
    browser.shows(".changes li", "pump in t / n: a Secondary → Primary").await;

    // What has the focus, and whether that is to be seen.
    const FOCUSED: &str = "(() => {
        const one = document.activeElement;
        const marked = one.matches('input[type=radio]') ? one.nextElementSibling : one;
        const seen = getComputedStyle(marked).outlineStyle !== 'none' && one.getBoundingClientRect().top >= 0;
        return `${one.id || one.innerText || one.ariaLabel || one.value}${seen ? '' : ' UNSEEN'}`;
    })()";
    let mut walk = Vec::new();
    for _ in 0..21 {
        browser.press(TAB).await;
        walk.push(browser.eval(FOCUSED).await.as_str().expect("a text").trim().to_owned());
    }
    assert_eq!(
        walk,
        [
            "skip",
            "Client failover",
            "times",
            "Groups",
            "At risk",
            "No Primary",
            "No standby",
            "Unhealthy",
            "Flapping",
            "Namespaces",
            "t",
            "n",
            "search",
            "only-at-risk",
            "Group",
            "Condition",
            "Term",
            "pump",
            "t / n",
            // The latest change.
            "pump",
            "API description",
        ]
    );
    browser.eval("document.querySelector('.groups tbody th > a').focus()").await;
    browser.press(ENTER).await;
    browser.shows("h1", "pump").await;
    // A reader of the screen is told where it is now.
    assert_eq!(browser.eval("document.activeElement.tagName").await, "H1");
    browser.until("document.querySelectorAll('.held').length === 1").await;
    browser.until("document.querySelectorAll('td.acts button').length === 5").await;
    let mut walk = Vec::new();
    for _ in 0..17 {
        browser.press(TAB).await;
        walk.push(browser.eval(FOCUSED).await.as_str().expect("a text").trim().to_owned());
    }
    // The head's links are before the title. After it come the acts on the group and on each
    // session.
    let acts = walk.drain(..8).collect::<Vec<_>>().join(" ");
    assert_eq!(acts, "Switch over… Edit… Delete group… Force… Keep out… Make Primary… Force… Keep out…");
    assert_eq!(walk[..5], ["1h", "‹", "−", "+", "From – to"]);
    assert!(walk[5].starts_with("a Primary since") && !walk[5].contains("UNSEEN"), "{walk:?}");
    assert_eq!(walk[6..], ["Export CSV", "Export JSON", "API description"]);

    // The time shown, by the arrow keys.
    browser.eval("document.querySelector('.spans input:checked').focus()").await;
    browser.press(LEFT).await;
    browser.until("location.hash.endsWith('?span=5m')").await;
    for (session, role) in [("b", 1), ("a", 1), ("b", 1)] {
        app.database.let_time_pass(MINUTE + 1).await;
        assert_eq!(app.beat("pump", session, 100.0).await, role);
    }
    browser.until("document.querySelectorAll('.held').length === 4").await;
    // From bar to bar, and from a bar to its row.
    browser.press(&TAB.repeat(5)).await;
    browser.press(HOME).await;
    browser.shows("#tip", "began: first heartbeat of the group").await;
    browser.press(ESCAPE).await;
    browser.until("document.querySelector('#tip').hidden").await;
    browser.press(ENTER).await;
    browser.until("document.activeElement.matches('.history tr')").await;
    assert!(browser.eval("document.activeElement.innerText").await.to_string().contains("first heartbeat"));
    no_faults(&browser).await;
}

/// The texts whose contrast to what is behind them is below 4.5:1, with the ratio.
const POOR_CONTRAST: &str = r"(() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const parts = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const behind = (element) => {
        for (let each = element; each; each = each.parentElement) {
            const colour = parts(getComputedStyle(each).backgroundColor);
            if (colour[3] === 255) return colour;
        }
        return [255, 255, 255];
    };
    const poor = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || !element.checkVisibility() || element.closest('.unseen, .skip, :disabled')) continue;
        const [a, b] = [light(parts(getComputedStyle(element).color)), light(behind(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) poor.push(`${walker.currentNode.textContent}: ${ratio.toFixed(2)}`);
    }
    return poor;
})()";

#[needs("chromium", "chromedriver")]
#[tokio::test]
async fn a_phone_shows_it_without_scrolling_sideways_and_every_text_stands_out_in_dark_and_light() {
    let app = start().await;
    let browser = Browser::start().await;
    app.pair("pump").await;
    let long = "x".repeat(260);
    app.group_of(&long, MINUTE, &[&long, "b"]).await;
    app.beat(&long, &long, 50.0).await;
    app.database.let_time_pass(MINUTE + 1).await;
    app.beat("pump", "b", 62.5).await;
    for hash in ["#/".to_owned(), "#/g/t/n/pump?span=5m".to_owned(), format!("#/g/t/n/{long}"), "#/n/t/n".to_owned()] {
        browser.go(&format!("{}/{hash}", app.url)).await;
        let part = if hash.starts_with("#/g") { ".held" } else { ".groups tbody tr:nth-child(2)" };
        browser.until(&format!("document.querySelector('{part}') !== null")).await;
        browser.shows("#connection", "Live").await;
        for (width, is_phone) in [(360, true), (900, false), (1_280, false)] {
            browser.screen(width, 740, 1, is_phone).await;
            let widths = browser.eval("[document.documentElement.scrollWidth, innerWidth]").await;
            assert!(widths[0].as_i64() <= widths[1].as_i64() && widths[1] == width, "{hash} at {width}: {widths}");
        }
        for scheme in ["light", "dark"] {
            browser.prefer("prefers-color-scheme", scheme).await;
            assert_eq!(browser.eval(POOR_CONTRAST).await, json!([]), "{hash}, {scheme}");
        }
    }
    // Tables are tables for who hears them, though a phone sees cards.
    browser.screen(360, 740, 1, true).await;
    let tree = browser.devtools("Accessibility.getFullAXTree", json!({})).await;
    let nodes = tree["nodes"].as_array().expect("an array");
    let with_role =
        |role: &str| nodes.iter().filter(|node| node["role"]["value"] == role && node["ignored"] == false).count();
    assert_eq!(with_role("table"), 1);
    assert_eq!(with_role("columnheader"), 7);
    assert_eq!(with_role("rowheader"), 2);
    assert_eq!((with_role("main"), with_role("banner"), with_role("contentinfo"), with_role("search")), (1, 1, 1, 1));
    // Whatever can be operated has a name.
    let nameless = nodes.iter().filter(|node| {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        let can_be_operated = ["link", "button", "searchbox", "textbox", "checkbox", "radio"].contains(&role);
        can_be_operated && node["name"]["value"].as_str().unwrap_or_default().is_empty()
    });
    assert_eq!(nameless.collect::<Vec<_>>(), Vec::<&Value>::new());
    no_faults(&browser).await;
}
