//! (being written)
#[derive(clap::Args, Debug, Clone)]
pub struct DemoArgs {}
#[derive(clap::Args, Debug, Clone)]
pub struct DemoAdapterArgs {}
#[derive(Debug, thiserror::Error)]
pub enum DemoError {}
pub async fn run(_: DemoArgs) -> Result<bool, DemoError> {
    Ok(true)
}
pub async fn run_adapter(_: DemoAdapterArgs) -> Result<(), DemoError> {
    Ok(())
}
