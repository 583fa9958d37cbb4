#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../../benchmarks/inspect/model_facts.hpp"
#include "../../benchmarks/inspect/report.hpp"
#include "../../benchmarks/inspect/words.hpp"
#include "io/checkpoint/made_folder.hpp"
#include "io/checkpoint/made_gguf.hpp"
#include "support/catch.hpp"

/// What `inspect` says of checkpoints, of each architecture.
namespace moe_test::inspect_test {

namespace {

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

/// Against the checkpoint itself: numbers of weights, of bytes, and what is printed of them.
inspect::ModelFacts checked_facts(const std::string& path) {
    const auto checkpoint = moe::Checkpoint::open(path);
    inspect::ModelFacts facts = inspect::facts_of(checkpoint);
    double weights = 0;
    double bytes = 0;
    for (const moe::CheckpointTensor& tensor : checkpoint.all_tensors()) {
        weights += static_cast<double>(tensor.weights);
        bytes += static_cast<double>(tensor.bytes);
    }
    CHECK(facts.total_bytes() == bytes);
    CHECK(facts.total_parameters() <= weights);  // scales of experts and a bias of outputs are in no cost
    CHECK(facts.total_parameters() >= 0.99 * weights);
    CHECK(facts.active_parameters() < facts.total_parameters());
    CHECK(facts.bytes_per_token() < facts.total_bytes());
    std::size_t layers = facts.dense_layers.size();
    for (const inspect::LayerGroup& group : facts.groups) {
        layers += group.layers.size();
        double of_rows = 0;
        for (const inspect::WeightRow& row : group.rows) {
            of_rows += row.bytes;
        }
        CHECK(of_rows == group.expert_bytes + group.other_bytes);
    }
    CHECK(layers == checkpoint.n_layers());
    const std::string text = inspect::model_text(path, facts);
    for (const inspect::LayerGroup& group : facts.groups) {
        CHECK(contains(text, group.shape));
        CHECK(contains(text, group.routing));
    }
    return facts;
}

inspect::ModelFacts facts_of_row(const moe_test::made_folder::Row& row) {
    moe_test::Draw draw(51);
    const moe_test::made_folder::Made model(row, moe::DType::bf16, draw);
    const moe_test::TemporaryDirectory folder;
    moe_test::checkpoint::write_text(folder.file("config.json"), model.config_text());
    std::vector<moe::TensorToWrite> both = model.tensors();  // layer 0 as layer 1
    for (moe::TensorToWrite one : model.tensors()) {
        for (const std::string_view place : {"layers.", "blocks.", "encoder.block."}) {
            if (const std::size_t at = one.name.find(place); at != std::string::npos) {
                one.name[at + place.size()] = '0';
                both.push_back(std::move(one));
                break;
            }
        }
    }
    REQUIRE(both.size() == 2 * model.tensors().size());
    const std::vector<std::int64_t> table(20);
    if (row.type == "deepseek_v4") {
        both.push_back({"layers.0.ffn.gate.tid2eid", moe::DType::i64, {10, 2}, std::as_bytes(std::span(table))});
    }
    moe::write_safetensors(folder.file("model.safetensors"), both);
    return checked_facts(folder.file(""));
}

}  // namespace

TEST_CASE("folders of each architecture are told in words", "[inspect]") {
    const std::map<std::string, std::string> routing{
        {"mixtral", "the 2 best by softmax; weights: their softmax, divided by their sum"},
        {"qwen3_moe", "the 2 best by softmax; weights: their softmax, divided by their sum"},
        {"olmoe", "the 2 best by softmax; weights: their softmax"},
        {"gpt_oss", "the 2 best by logit; weights: a softmax over the chosen; logits have a bias"},
        {"llama4", "the best expert by logit; weights: their sigmoid; the weight multiplies what goes into the expert"},
        {"phimoe", "the best expert twice, the second time without the first"},
        {"deepseek_v3",
         "the 2 best by sigmoid with a bias for the choice alone, out of the 2 best of 4 groups; "
         "weights: their sigmoid, divided by their sum, times 2.5"},
    };
    std::size_t known = 0;
    std::size_t rows = 0;
    for (const moe_test::made_folder::Row& row : moe_test::made_folder::rows()) {
        INFO(row.type);
        const inspect::ModelFacts facts = facts_of_row(row);
        REQUIRE(facts.groups.size() == (row.type == "deepseek_v4" ? 2 : 1));
        const inspect::LayerGroup& group = facts.groups.back();
        CHECK(contains(group.shape, "8 experts, "));
        CHECK(contains(group.shape, "d_model 28, d_ff 20"));
        CHECK(contains(group.shape, "a shared expert") == !row.shared.empty());
        if (const auto found = routing.find(row.type); found != routing.end()) {
            CHECK(group.routing == found->second);
            ++known;
        }
        ++rows;
    }
    CHECK(known == routing.size());
    CHECK(rows > 50);
}

TEST_CASE("GGUF files of each architecture have a row for each projection", "[inspect]") {
    moe_test::Draw draw(52);
    const moe_test::TemporaryDirectory folder;
    const std::string path = folder.file("model.gguf");
    for (const moe_test::made_gguf::Row& row : moe_test::made_gguf::rows()) {
        INFO(row.name);
        moe_test::made_gguf::Made(row, "mixed", draw).write_both(path);
        const inspect::ModelFacts facts = checked_facts(path);
        REQUIRE_FALSE(facts.groups.empty());
        const inspect::LayerGroup& group = facts.groups.back();
        CHECK(group.layers.back() == 1);
        CHECK(group.codes);
        std::string last;
        for (const inspect::WeightRow& one : group.rows) {
            last = one.part == "down" ? one.type : last;
        }
        CHECK(last == "Q8_0");
    }
}

TEST_CASE("what ggml has written is told with its types", "[inspect]") {
    const std::string folder = std::string(MOE_TEST_DATA_DIR) + "/golden/quantised/layers/";
    const std::string mixtral =
        inspect::model_text("x/mixtral_q4_k_m.gguf", checked_facts(folder + "mixtral_q4_k_m.gguf"));
    CHECK(contains(mixtral, "mixtral_q4_k_m.gguf: llama, 1 layer, all of them with experts\n"));
    CHECK(contains(mixtral, "  gate    Q4_K       1            4.50       295 kB\n"));
    CHECK(contains(mixtral, "  down    Q6_K       1            6.56       430 kB\n"));
    CHECK(checked_facts(folder + "qwen3moe_q8_0.gguf").groups.front().layers.size() == 2);
    CHECK(checked_facts(folder + "gpt_oss_mxfp4.gguf").groups.front().rows.size() == 5);
}

TEST_CASE("the embedding is no weight of a token, other tensors are", "[inspect]") {
    const std::string path = std::string(MOE_TEST_EXAMPLES_DIR) + "/models/tiny-mixtral";
    const inspect::ModelFacts facts = checked_facts(path);
    CHECK(facts.others.weights - facts.others.active_weights == 256 * 128);
    CHECK(facts.active_parameters() == facts.total_parameters() - 256 * 128 - 4 * 6 * 3 * 128 * 192);
}

TEST_CASE("the least time is that of the slower limit, for experts and for all else", "[inspect]") {
    const std::string path = std::string(MOE_TEST_EXAMPLES_DIR) + "/models/tiny-mixtral";
    const inspect::ModelFacts facts = checked_facts(path);
    inspect::Limits limits{.threads = 1, .bytes_per_second = 1e9, .float_flops = 1e30, .integer_flops = 1e30};
    const inspect::LeastSeconds memory = inspect::least_seconds(facts, limits, 1);
    CHECK(memory.model == Approx(facts.bytes_per_token() / 1e9));
    CHECK(memory.model - memory.experts == Approx(facts.others.active_bytes / 1e9));
    limits = {.threads = 1, .bytes_per_second = 1e30, .float_flops = 1e9, .integer_flops = 1e30};
    CHECK(inspect::least_seconds(facts, limits, 3).model == Approx(3 * 2 * facts.active_parameters() / 1e9));
    const std::vector<std::size_t> tokens{1, 7};
    CHECK(contains(inspect::speed_text(facts, limits, tokens), "\n         7  "));
}

TEST_CASE("the plan says what fits and by how much what does not is too large", "[inspect]") {
    const std::string path = std::string(MOE_TEST_EXAMPLES_DIR) + "/models/tiny-mixtral";
    const inspect::ModelFacts facts = checked_facts(path);
    const std::string roomy = inspect::plan_text(facts, {.total = 2e9, .free = 1e9});
    CHECK(contains(roomy, "memory: 2 GB, of which 1 GB are free; 10 %"));
    CHECK_FALSE(contains(roomy, "too large"));
    const std::string narrow = inspect::plan_text(facts, {.total = 8e6, .free = 4e6});  // 3.6 MB, of which 535 kB go
    CHECK(contains(narrow, "packed int4"));
    CHECK(contains(narrow, "MB to spare"));
    CHECK(contains(narrow, "packed as stored"));
    CHECK(contains(narrow, "MB too large; experts of 2 of 4 layers fit\n"));
}

TEST_CASE("numbers are for people", "[inspect]") {
    CHECK(inspect::ranges({}).empty());
    CHECK(inspect::ranges({3}) == "3");
    CHECK(inspect::ranges({0, 1, 2, 5, 7, 8}) == "0-2, 5, 7-8");
    CHECK(inspect::bytes_text(999) == "999 B");
    CHECK(inspect::bytes_text(1500) == "1.5 kB");
    CHECK(inspect::bytes_text(17.44e9) == "17.4 GB");
    CHECK(inspect::bytes_text(999.9e6) == "1 GB");
    CHECK(inspect::count_text(46.7e9) == "46.7 billion");
    CHECK(inspect::count_text(1234) == "1234");
    CHECK(inspect::number_text(0) == "0");
    CHECK(inspect::number_text(0.0123) == "0.012");
    CHECK(inspect::number_text(250.4) == "250");
}

}  // namespace moe_test::inspect_test
