// Standard input, output and error of a process that may have been started without them.
#pragma once

namespace sluice {

// Opens /dev/null as each of the three that was closed when the process started, and if there was
// one, starts the program again, by `argv`: a library that came before main may hold its number by
// now, and would get what is printed.
void OpenStandardDescriptors(char** argv);

}  // namespace sluice
