//! The Prometheus text format (0.0.4), written by the encoder of the `prometheus` crate.

use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder as _, TextEncoder};

/// The type of a family of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A page of metrics: families, each with its samples behind it. Names get the prefix `auth_gateway_`.
#[derive(Debug, Default)]
pub(super) struct Page {
    families: Vec<MetricFamily>,
}

impl Page {
    /// Begins a family.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let mut family = MetricFamily::default();
        family.set_name(format!("auth_gateway_{name}"));
        family.set_help(help.to_owned());
        family.set_field_type(match kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        self.families.push(family);
    }

    /// Adds a sample to the last family.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.sample_f64(labels, value as f64);
    }

    /// Adds a sample to the last family.
    pub(super) fn sample_f64(&mut self, labels: &[(&str, &str)], value: f64) {
        let Some(family) = self.families.last_mut() else { return };
        let mut metric = with_labels(labels);
        if family.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        family.mut_metric().push(metric);
    }

    /// Adds a histogram to the last family: counts per bucket, the last of what is above all `bounds`.
    pub(super) fn histogram(&mut self, labels: &[(&str, &str)], bounds: &[f64], counts: &[u64], sum: f64) {
        let Some(family) = self.families.last_mut() else { return };
        let mut histogram = Histogram::default();
        let mut cumulative = 0;
        let buckets = bounds.iter().zip(counts).map(|(&bound, &count)| {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(sum);
        let mut metric = with_labels(labels);
        metric.set_histogram(histogram);
        family.mut_metric().push(metric);
    }

    /// Adds `process_*`: CPU time, memory, file descriptors, threads and the start time.
    pub(super) fn process(&mut self) {
        self.families.extend(ProcessCollector::for_self().collect());
    }

    /// The page. Families without a sample are left out: the format has no form for them.
    pub(super) fn text(mut self) -> String {
        self.families.retain(|family| !family.get_metric().is_empty());
        let mut text = Vec::with_capacity(16 * 1024);
        if let Err(error) = TextEncoder::new().encode(&self.families, &mut text) {
            tracing::error!(%error, "the metrics cannot be written");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

fn with_labels(labels: &[(&str, &str)]) -> Metric {
    let pair = |&(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}
