// SPDX-License-Identifier: Apache-2.0
// upci help [COMMAND...]: the same as COMMAND... --help.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "tools/upci/command.h"
#include "tools/upci/output.h"

namespace upci::tool {

void add_help_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("help", "Explain a command");
  auto words = std::make_shared<std::vector<std::string>>();
  command->add_option("COMMAND", *words, "What to explain, as in 'net test'")->type_name("");
  command->footer("Examples:\n  upci help\n  upci help net test");
  command->callback([&invocation, &app, words] {
    invocation.action = [&app, words] {
      const CLI::App* about = &app;
      for (const std::string& word : *words) {
        const auto commands = about->get_subcommands([&](const CLI::App* each) { return each->get_name() == word; });
        if (commands.empty()) {
          return usage_error(app, {.code = Errc::kInvalid, .what = fmt::format("there is no command '{}'", word)});
        }
        about = commands.front();
      }
      return print_text(help_of(*about));
    };
  });
}

}  // namespace upci::tool
